#!lua flags=allow-oom
-- The sweep of one partition: tells of the sessions that a timeout ended. The expiry itself never waits for it.
-- KEYS  live, log, tail, meta
-- ARGV  1 how many at most, 2 audit retention ms
-- Returns {'ok', how many were found}
-- @include includes/expired
local now = now_ms()
local most, found = tonumber(ARGV[1]), 0

-- Which device a session was on is all that its record knew and the indexes do not say by themselves.
local function devices_of_sessions(owner)
  local flat, device_of = redis.call('HGETALL', devices_key(owner)), {}
  for i = 1, #flat, 2 do device_of[flat[i + 1]] = flat[i] end
  return device_of
end

for _, owner in ipairs(redis.call('ZRANGEBYSCORE', LIVE, '-inf', '(' .. int(now), 'LIMIT', 0, most)) do
  if found >= most then break end
  local ids = redis.call('ZRANGEBYSCORE', user_key(owner), '-inf', '(' .. int(now), 'LIMIT', 0, most - found)
  local device_of = devices_of_sessions(owner)
  for _, id in ipairs(ids) do
    expired_tell(id, owner, device_of[id] or '', now, tonumber(ARGV[2]))
  end
  index_settle(owner)
  found = found + #ids
end
return { 'ok', found }
