--- The same as `genai.limits.sliding_minute` in a Redis that replicas share. Each step is a script,
-- which Redis runs without another step in between, by the clock of Redis.

local format = string.format
local ipairs = ipairs
local tonumber = tonumber
local type = type

local _M = {}

--- Prefix of all keys.
_M.PREFIX = "token-budget:"

-- A budget is a hash of tokens by second. Without the first line, Redis before version 5 refuses to
-- write after TIME.
local HEAD = [[
if redis.replicate_commands then redis.replicate_commands() end
local time = redis.call("TIME")
local second = tonumber(time[1])
local length = tonumber(ARGV[1])
]]

-- Arguments: length of the minute in seconds, tokens, bound. Returns whether the tokens are counted
-- (1 or 0), how many counted before, the second, and milliseconds until fewer than `bound` count.
local RESERVE = HEAD .. [[
local used, kept, over = 0, {}, {}
local all = redis.call("HGETALL", KEYS[1])
for i = 1, #all, 2 do
  local at, tokens = tonumber(all[i]), tonumber(all[i + 1])
  if at < second - length then
    over[#over + 1] = all[i]
  else
    used = used + tokens
    kept[#kept + 1] = { at, tokens }
  end
end
if #over > 0 then redis.call("HDEL", KEYS[1], unpack(over)) end
local bound = tonumber(ARGV[3])
if used >= bound then
  table.sort(kept, function(a, b) return a[1] < b[1] end)
  local left = used
  for _, each in ipairs(kept) do
    left = left - each[2]
    if left < bound then
      local past = math.floor(tonumber(time[2]) / 1000)
      return { 0, used, second, (each[1] + length + 1 - second) * 1000 - past }
    end
  end
  return { 0, used, second, 0 }
end
redis.call("HINCRBY", KEYS[1], second, ARGV[2])
redis.call("EXPIRE", KEYS[1], length + 2)
return { 1, used, second, 0 }
]]

-- Arguments: length of the minute, the second, and by how much.
local CORRECT = HEAD .. [[
local at, by = tonumber(ARGV[2]), tonumber(ARGV[3])
if by > 0 then
  redis.call("HINCRBY", KEYS[1], second, by)
  redis.call("EXPIRE", KEYS[1], length + 2)
elseif second - at <= length and redis.call("HEXISTS", KEYS[1], at) == 1 then
  redis.call("HINCRBY", KEYS[1], at, by)
end
return 1
]]


-- Redis takes whole numbers without an exponent only.
local function whole(number)
    return format("%.0f", number)
end


--- Counts tokens, unless `bound` or more count already.
-- @tparam table client of lua-resty-redis
-- @tparam string key
-- @tparam number seconds the length of the minute
-- @tparam number tokens
-- @tparam number bound
-- @treturn table|nil `second` (nil: they are not counted), `used`: the number of tokens that
--   counted before, `wait_ms`: until fewer than `bound` count, if none are added
-- @treturn nil|string the error
function _M.reserve(client, key, seconds, tokens, bound)
    local answer, err = client:eval(RESERVE, 1, _M.PREFIX .. key, whole(seconds), whole(tokens),
                                    whole(bound))
    if type(answer) ~= "table" then
        return nil, err or "unexpected answer"
    end
    return { second = answer[1] == 1 and answer[3] or nil, used = tonumber(answer[2]) or 0,
             wait_ms = tonumber(answer[4]) or 0 }
end


--- Corrects tokens that were counted.
-- @tparam table client
-- @tparam number seconds the length of the minute
-- @tparam table corrections each with `key`, `second` as `reserve` returned it, and `by`
-- @treturn table|nil nil if it failed
-- @treturn nil|string the error
function _M.correct(client, seconds, corrections)
    client:init_pipeline(#corrections)
    for _, each in ipairs(corrections) do
        client:eval(CORRECT, 1, _M.PREFIX .. each.key, whole(seconds), whole(each.second),
                    whole(each.by))
    end
    local results, err = client:commit_pipeline()
    for _, each in ipairs(results or {}) do
        if type(each) == "table" and each[1] == false then
            return nil, each[2]
        end
    end
    return results, err
end


return _M
