#!lua flags=allow-oom
-- Sweeps one partition: records the end of sessions that a timeout has ended. The expiry itself never waits for it.
-- Used by the sweep, ExplainSession
-- KEYS  LIVE, LOG, TAIL, META
-- ARGV  limit (the most sessions), audit_retention_ms
-- Returns {'ok', how many were found}
local LIVE, LOG, TAIL, META = unpack(KEYS)
local limit, audit_retention_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
-- @include includes/expired_session
local now = now_ms()
local found = 0

-- The device is the only part of an expired record that the indexes do not hold by session.
local function devices_of_sessions(owner)
  local flat, device_of = redis.call('HGETALL', devices_key(owner)), {}
  for i = 1, #flat, 2 do device_of[flat[i + 1]] = flat[i] end
  return device_of
end

for _, owner in ipairs(redis.call('ZRANGEBYSCORE', LIVE, '-inf', '(' .. int(now), 'LIMIT', 0, limit)) do
  if found >= limit then break end
  local ids = redis.call('ZRANGEBYSCORE', user_key(owner), '-inf', '(' .. int(now), 'LIMIT', 0, limit - found)
  local device_of = devices_of_sessions(owner)
  for _, id in ipairs(ids) do
    expired_session_end(id, owner, device_of[id] or '', now, audit_retention_ms)
  end
  index_settle(owner)
  found = found + #ids
end
return { 'ok', found }
