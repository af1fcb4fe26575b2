--- Runs files of tests: luajit test/lua/run.lua test/lua/*_test.lua test/lua-io/*_test.lua

local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. here .. "/../lua-io/?.lua;"
               .. here .. "/../../lua-plugins/?.lua;" .. package.path

local harness = require("harness")

for _, path in ipairs(arg) do
    dofile(path)
end
print(("%d tests, %d failed"):format(harness.count, harness.failed))
os.exit(harness.failed == 0 and 0 or 1)
