--- The current apisix.yaml: the version by which APISIX distinguishes files, and the manifest.

local core = require("apisix.core")
local lfs = require("lfs")
local loaded_config = require("apisix_internals.loaded_config")
local readiness_rules = require("genai.readiness_rules")
local concat = table.concat
local io_open = io.open

local _M = {}

-- The result of the last look at the file.
local seen = {}


local function read_manifest(path)
    local file = io_open(path, "r")
    if not file then
        return nil
    end
    local manifest
    for line in file:lines() do
        manifest = readiness_rules.manifest(line, core.json.decode)
        if manifest or not readiness_rules.is_comment(line) then
            break
        end
    end
    file:close()
    return manifest
end


--- Looks at the file; reads it only if it has changed.
-- @treturn table `mark`: a text that differs for each file; `version`: its time in seconds; `path`;
--   `manifest`. Empty if there is no file
function _M.look()
    local path = loaded_config.path()
    local found = path and lfs.attributes(path)
    if not found then
        return {}
    end
    local mark = concat({ found.modification, found.change, found.size, found.ino }, "|")
    if seen.mark ~= mark then
        seen = {
            mark = mark,
            version = found.modification,
            path = path,
            manifest = read_manifest(path),
        }
    end
    return seen
end


return _M
