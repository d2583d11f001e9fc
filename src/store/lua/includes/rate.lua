-- A rate limit of `count` in `period` ms, as GCRA: one key, one instant, no window whose edge lets twice as many through.
-- @include includes/time

-- How many ms to wait, 0 for none; and the instant that rate_charge writes.
local function rate_wait(key, now, count, period)
  local arrival = math.max(tonumber(redis.call('GET', key) or 0), now)
  return math.max(0, math.ceil(arrival - now - period + period / count)), arrival + period / count
end

local function rate_charge(key, now, arrival)
  redis.call('SET', key, int(math.ceil(arrival)), 'PX', int(math.max(1, math.ceil(arrival - now))))
end
