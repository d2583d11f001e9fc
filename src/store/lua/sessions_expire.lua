#!lua flags=allow-oom
-- The sweep of one partition: tells of the sessions that a timeout ended. The expiry itself never waits for it.
-- KEYS  live, log, tail, meta
-- ARGV  1 how many at most, 2 audit retention ms
-- Returns {'ok', how many were found}
-- @include lib/finish
-- @include lib/audit
local now = now_ms()
local members = redis.call('ZRANGEBYSCORE', LIVE, '-inf', '(' .. int(now), 'LIMIT', 0, ARGV[1])
for _, member in ipairs(members) do
  local id, owner, device = string.match(member, '^(%S+) (%S+) ?(%S*)$')
  index_remove(id, owner, device)
  index_settle(owner, now)
  tombstone_put(id, owner, now, 'expired', '', '', math.huge)
  change_append(now, 'expired', id, owner, 0, '')
  audit_append(owner, now, tonumber(ARGV[2]), 'expired', id, device, '', '')
end
return { 'ok', #members }
