#!lua flags=allow-oom
-- Ends one session.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 reason (also the audit event), 4 audit retention ms, 5 actor,
--       6 note
-- Returns {'ok'} or {'not_found'}
-- @include includes/finish
-- @include includes/audit
local now = now_ms()
local r = record_read_of_tenant(ARGV[1], now, ARGV[2])
if not r then return { 'not_found' } end
finish(r, now, ARGV[3], ARGV[5], ARGV[6])
audit_append(r.owner, now, tonumber(ARGV[4]), ARGV[3], r.id, r.device, ARGV[5], ARGV[6])
return { 'ok' }
