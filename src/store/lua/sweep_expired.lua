#!lua flags=allow-oom
-- Sweeps one partition: records the end of sessions that a timeout has ended. The expiry itself never waits for it.
-- Used by the sweep, ExplainSession
-- KEYS  LIVE, LOG, TAIL, META
-- ARGV  limit (the most sessions), audit_retention_ms
-- Returns {'ok', how many were found, the first deadline that is left in ms or nothing}
local LIVE, LOG, TAIL, META = unpack(KEYS)
local limit, audit_retention_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
-- @include includes/finish
local found = 0
for _, owner in ipairs(redis.call('ZRANGEBYSCORE', LIVE, '-inf', '(' .. int(now), 'LIMIT', 0, limit)) do
  if found >= limit then break end
  local ids = index_expired(owner, limit - found)
  local device_of = devices_of(owner)
  for _, id in ipairs(ids) do finish_expired(id, owner, device_of[id] or '', audit_retention_ms) end
  index_settle(owner)
  found = found + #ids
end
return { 'ok', found, redis.call('ZRANGE', LIVE, 0, 0, 'WITHSCORES')[2] }
