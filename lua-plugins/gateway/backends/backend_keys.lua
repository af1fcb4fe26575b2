--- Backend keys from files: updates a backend's header lines when its key changes, and marks the
-- backend as broken while there is no key.

local secret_files = require("gateway.credentials.secret_files")
local cooldown = require("genai.balancing.cooldown")
local http_headers = require("genai.http.http_headers")
local shared_memory = require("gateway.mechanisms.shared_memory")

local _M = {}

local state = shared_memory.state


local function sign_in(backend, key)
    backend.is_broken = key == nil
    backend.lines = key and backend.bare_lines .. http_headers.line("api-key", key)
                    or backend.bare_lines
end


local function change(backend, key)
    sign_in(backend, key)
    -- The backend refused the previous key, so the cooldown does not apply to this one.
    cooldown.stop_for(state, backend.id, "credentials")
end


--- Uses the key of a setting for a backend, now and after each change.
-- @tparam table backend of the pool; `bare_lines` are its header lines without a key
-- @tparam string setting
-- @treturn boolean whether there is a key now
function _M.follow(backend, setting)
    backend.key_setting = setting
    sign_in(backend, secret_files.follow(setting, backend, change))
    return not backend.is_broken
end


--- Whether a broken backend has got its key. At first the setting may be unknown, because APISIX
-- loads the parts of a file one after another.
function _M.has_key_now(backend)
    return backend.key_setting ~= nil and _M.follow(backend, backend.key_setting)
end


--- Whether a refused key has been replaced since it was sent.
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
