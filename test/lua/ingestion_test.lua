local ingestion = require("genai.telemetry.ingestion")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal


describe("ingestion: what an answer means", function()
    it("is told by its status", function()
        for status, expected in pairs({
            [200] = { "sent" }, [204] = { "sent" },
            [401] = { "token", "unauthorized" }, [403] = { "refused", "unauthorized" },
            [400] = { "refused", "rejected" }, [404] = { "refused", "rejected" },
            [413] = { "refused", "rejected" }, [302] = { "refused", "rejected" },
            [408] = { "again", "server_error" }, [429] = { "again", "throttled" },
            [500] = { "again", "server_error" }, [503] = { "again", "server_error" },
        }) do
            equal({ ingestion.verdict(status) }, expected, tostring(status))
        end
    end)
end)


describe("ingestion: the next try", function()
    it("comes later each time, and not at once for all", function()
        for attempts, longest in pairs({ 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000 }) do
            equal(ingestion.wait_ms(attempts, nil, 1), longest)
            equal(ingestion.wait_ms(attempts, nil, 0), longest / 2)
        end
        equal(ingestion.wait_ms(5000, nil, 1), 60000)
    end)

    it("waits for as long as the API asks for, within reason", function()
        equal(ingestion.wait_ms(1, 7000, 1), 7000)
        equal(ingestion.wait_ms(1, 100, 1), 1000)
        equal(ingestion.wait_ms(1, 86400 * 1000, 1), 300000)
    end)
end)
