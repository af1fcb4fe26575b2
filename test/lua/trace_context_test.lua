local trace_context = require("genai.telemetry.trace_context")
local harness = require("harness")
local describe, it, equal = harness.describe, harness.it, harness.equal

local TRACE = "0af7651916cd43dd8448eb211c80319c"
local SPAN = "b7ad6b7169203331"


local function header(version, trace_id, span_id, flags, rest)
    return version .. "-" .. trace_id .. "-" .. span_id .. "-" .. flags .. (rest or "")
end


describe("trace context: what a traceparent says", function()
    it("of whose trace it is, and whether that is recorded", function()
        equal(trace_context.parse(header("00", TRACE, SPAN, "01")),
              { trace_id = TRACE, span_id = SPAN, is_sampled = true, is_random = false })
        equal(trace_context.parse(header("00", TRACE, SPAN, "00")),
              { trace_id = TRACE, span_id = SPAN, is_sampled = false, is_random = false })
        equal(trace_context.parse(header("00", TRACE, SPAN, "03")).is_random, true)
        equal(trace_context.parse(header("00", TRACE, SPAN, "ff")).is_sampled, true)
    end)

    it("of later versions as much as of this one", function()
        equal(trace_context.parse(header("01", TRACE, SPAN, "01", "-what is new")).trace_id, TRACE)
        equal(trace_context.parse(header("fe", TRACE, SPAN, "01")).trace_id, TRACE)
        equal(trace_context.parse(header("01", TRACE, SPAN, "01", "x")), nil)
    end)

    it("nothing where it is none", function()
        for _, each in ipairs({
            "", "x", "00", header("ff", TRACE, SPAN, "01"), header("00", TRACE, SPAN, "1"),
            header("00", ("0"):rep(32), SPAN, "01"), header("00", TRACE, ("0"):rep(16), "01"),
            header("00", TRACE .. "0", SPAN, "01"), header("00", TRACE:sub(2), SPAN, "01"),
            header("00", TRACE, SPAN .. "0", "01"), header("00", TRACE:upper(), SPAN, "01"),
            header("00", TRACE, SPAN, "01", "-more"), header("00", TRACE, SPAN, "011"),
            header("0G", TRACE, SPAN, "01"), " " .. header("00", TRACE, SPAN, "01"),
        }) do
            equal(trace_context.parse(each), nil)
        end
        equal(trace_context.parse(nil), nil)
        equal(trace_context.parse({ header("00", TRACE, SPAN, "01") }), nil)
    end)

    it("what is written can be read", function()
        equal(trace_context.header(TRACE, SPAN, false), header("00", TRACE, SPAN, "01"))
        equal(trace_context.parse(trace_context.header(TRACE, SPAN, true)),
              { trace_id = TRACE, span_id = SPAN, is_sampled = true, is_random = true })
    end)
end)


describe("trace context: which traces are recorded", function()
    local function id(digits)
        return ("a"):rep(16) .. digits .. ("f"):rep(16 - #digits)
    end

    it("all of them, or none", function()
        equal(trace_context.is_chosen(id("ffff"), 1), true)
        equal(trace_context.is_chosen(id("0000"), 0), false)
    end)

    it("those below the rate, by digits that say nothing else", function()
        equal(trace_context.is_chosen(id("7fff"), 0.5), true)
        equal(trace_context.is_chosen(id("8000"), 0.5), false)
        equal(trace_context.is_chosen(id("1998"), 0.1), true)
        equal(trace_context.is_chosen(id("199a"), 0.1), false)
        equal(trace_context.is_chosen(id("0000000000000"), 1e-15), true)
        equal(trace_context.is_chosen(id("0000000000010"), 1e-15), false)
    end)

    it("about as many as the rate says, and with a greater rate the same ones and more", function()
        math.randomseed(7)
        local few, many = 0, 0
        for _ = 1, 10000 do
            local each = ("%08x%08x%08x%08x"):format(math.random(0, 0xffff), math.random(0, 0xffff),
                                                    math.random() * 0x7fffffff * 2,
                                                    math.random(0, 0xffff))
            local in_few = trace_context.is_chosen(each, 0.1)
            local in_many = trace_context.is_chosen(each, 0.3)
            few = few + (in_few and 1 or 0)
            many = many + (in_many and 1 or 0)
            equal(in_few and not in_many, false)
        end
        equal(few > 850 and few < 1150, true)
        equal(many > 2800 and many < 3200, true)
    end)
end)
