#!lua
-- Tells the audit trail that a session was presented from another address: once an hour for each address.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 a digest of the address, 4 audit retention ms, 5 actor
-- Returns {'ok'} or {'not_found'}
-- @include includes/record
-- @include includes/audit
local SEEN_TTL_MS = 3600000
local now = now_ms()
local r = record_read_of_tenant(ARGV[1], now, ARGV[2])
if not r then return { 'not_found' } end
local seen = BASE .. 'i:' .. r.id .. ':' .. ARGV[3]
if redis.call('SET', seen, '1', 'NX', 'PX', SEEN_TTL_MS) then
  audit_append(r.owner, now, tonumber(ARGV[4]), 'ip_mismatch', r.id, r.device, ARGV[5], '')
end
return { 'ok' }
