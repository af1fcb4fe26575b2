--- APISIX's secret manager `file`: resolves references such as `$secret://file/settings/NAME`.
-- The files themselves are followed by `gateway.credentials.secret_files`.

local secret_files = require("gateway.credentials.secret_files")

return {
    schema = secret_files.schema,
    get = secret_files.get,
}
