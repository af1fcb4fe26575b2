--- Keys of backends that stand in files: a backend has the current one in its lines, and is broken
-- while there is none.

local secret_files = require("apisix.secret.file")
local cooldown = require("genai.cooldown")
local headers_mod = require("genai.headers")
local ngx = ngx

local _M = {}

local dict = ngx.shared["genai-gateway-state"]


local function sign_in(backend, key)
    backend.is_broken = key == nil
    backend.lines = key and backend.bare_lines .. headers_mod.line("api-key", key)
                    or backend.bare_lines
end


local function change(backend, key)
    sign_in(backend, key)
    -- What was refused was the key before.
    cooldown.stop_for(dict, backend.id, "credentials")
end


--- Gives a backend the key of a setting, now and whenever it changes.
-- @tparam table backend of the pool; `bare_lines` are its lines without a key
-- @tparam string setting
-- @treturn boolean whether there is a key now
function _M.follow(backend, setting)
    backend.key_setting = setting
    sign_in(backend, secret_files.follow(setting, backend, change))
    return not backend.is_broken
end


--- Looks whether a broken backend has got its key. That its setting is not known at first is a
-- matter of order: APISIX takes over the parts of a file one after another.
function _M.is_mended(backend)
    return backend.key_setting ~= nil and _M.follow(backend, backend.key_setting)
end


--- Whether a key that was refused has been replaced since it was sent.
-- @tparam table backend
-- @tparam string lines that the backend had when it was sent
function _M.is_replaced(backend, lines)
    if not backend.key_setting then
        return false
    end
    if backend.lines == lines then
        secret_files.look_again(backend.key_setting)
    end
    return backend.lines ~= lines and not backend.is_broken
end


return _M
