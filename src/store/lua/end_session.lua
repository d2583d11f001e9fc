#!lua flags=allow-oom
-- Ends one session.
-- Used by DeleteSession, InvalidateSession; by the IP binding of GetSession, ValidateToken, BatchValidate, ValidateStream
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), reason (also the audit event), audit_retention_ms, actor, note
-- Returns {'ok'} or {'not_found'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, reason = ARGV[1], ARGV[2], ARGV[3]
local audit_retention_ms, actor, note = tonumber(ARGV[4]), ARGV[5], ARGV[6]
-- @include includes/record
-- @include includes/finish
local r = record_read_of_tenant(session_id, owner_prefix)
if not r then return { 'not_found' } end
finish(r, audit_retention_ms, reason, actor, note)
return { 'ok' }
