#!lua
-- Whether a session is alive and, if it ended, why.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix
-- Returns {'alive', owner}, {'ended', owner, reason, actor, note, at ms} or {'unknown'}
-- @include includes/record
local r = of_tenant(record_read_exact(ARGV[1], now_ms()), ARGV[2])
if r and r.kind ~= KIND_FORWARD then return { 'alive', r.owner } end
local t = redis.call('HMGET', KEYS[3], 'owner', 'reason', 'actor', 'note', 'at')
if not of_tenant({ owner = t[1] or '' }, ARGV[2]) then return { 'unknown' } end
return { 'ended', t[1], t[2], t[3], t[4], t[5] }
