--- Which requests ai-rate-limiting counts, and the cost of each. The plugin reads these context
-- fields in its access and log phases.

local contract = require("apisix_internals.contract")

local _M = {}

contract.part("token_budget")

-- All backends share one name, because budgets apply to the whole gateway.
local INSTANCE = "pool"


--- Counts this request in the budgets. It costs nothing unless it is charged later.
function _M.include(ctx)
    ctx.picked_ai_instance_name = INSTANCE
    _M.charge(ctx, 0, 0, 0)
end


--- Exempts this request from the budgets: they neither check nor charge it.
function _M.exclude(ctx)
    ctx.picked_ai_instance_name = nil
end


--- Sets the cost of this request in tokens.
function _M.charge(ctx, prompt, completion, total)
    ctx.ai_token_usage = {
        prompt_tokens = prompt,
        completion_tokens = completion,
        total_tokens = total,
    }
end


--- Sets the cost of this request for budgets that count requests, with the expression `requests`.
function _M.charge_requests(ctx, requests)
    ctx.llm_raw_usage = { requests = requests }
end


return _M
