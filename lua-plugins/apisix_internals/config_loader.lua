--- Speeds up how APISIX reads apisix.yaml. Every process reads the whole file without yielding to
-- requests. These patches read files that the compiler writes ten times as fast, and leave all
-- other files to APISIX.

local contract = require("apisix_internals.contract")
local cjson = require("cjson.safe").new()
local rendered_yaml = require("genai.util.rendered_yaml")
local decode = cjson.decode
local find = string.find

local need = contract.part("config_loader")
local file = need("apisix.cli.file")
local lyaml = need("lyaml")

local _M = {}

-- NaN, Infinity and hexadecimal numbers mean something else in YAML, so they are left to APISIX's
-- reader.
cjson.decode_invalid_numbers(false)


--- Replaces APISIX's functions. `contract.open` calls it once in each process.
function _M.install()
    local resolve = file.resolve_conf_var_in_text
    -- APISIX tries its pattern at each character, even if the text contains nothing to replace.
    file.resolve_conf_var_in_text = function(text)
        if not find(text, "${{", 1, true) then
            return text
        end
        return resolve(text)
    end

    local load = lyaml.load
    lyaml.load = function(text, options)
        return not options and rendered_yaml.read(text, decode) or load(text, options)
    end
end


return _M
