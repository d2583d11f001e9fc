-- A rate limit of `count` in `period` ms by GCRA: one key holds one instant. A fixed window would let twice as many pass
-- around its edge.
-- @include includes/time

-- Returns how many ms to wait (0: none), and the instant for rate_charge to write.
local function rate_wait(key, now, count, period)
  local arrival = math.max(tonumber(redis.call('GET', key) or 0), now)
  return math.max(0, math.ceil(arrival - now - period + period / count)), arrival + period / count
end

local function rate_charge(key, now, arrival)
  redis.call('SET', key, int(math.ceil(arrival)), 'PX', int(math.max(1, math.ceil(arrival - now))))
end
