#!lua
-- Appends to the audit trail that a session was presented from another address than its login's: once an hour for each
-- address.
-- Used by GetSession, GetDeviceSession, ValidateSession, ValidateToken, BatchValidate, ValidateStream
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), address_digest, audit_retention_ms, by
-- Returns {'ok'} or {'not_found'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, address_digest = ARGV[1], ARGV[2], ARGV[3]
local audit_retention_ms, by = tonumber(ARGV[4]), ARGV[5]
-- @include includes/ip_binding
local r = record_read_of_tenant(session_id, owner_prefix)
if not r then return { 'not_found' } end
ip_mismatch_note(r, address_digest, audit_retention_ms, by)
return { 'ok' }
