#!lua
-- Appends to the audit trail that a session was presented from another address than its login's: once an hour for each
-- address.
-- Used by GetSession, ValidateToken, BatchValidate, ValidateStream
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), address_digest, audit_retention_ms, actor
-- Returns {'ok'} or {'not_found'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, address_digest = ARGV[1], ARGV[2], ARGV[3]
local audit_retention_ms, actor = tonumber(ARGV[4]), ARGV[5]
-- @include includes/record
-- @include includes/audit
local RECORDED_TTL_MS = 3600000
local r = record_read_of_tenant(session_id, owner_prefix)
if not r then return { 'not_found' } end
local recorded = BASE .. 'i:' .. r.id .. ':' .. address_digest
if redis.call('SET', recorded, '1', 'NX', 'PX', RECORDED_TTL_MS) then
  audit_append(r, audit_retention_ms, 'ip_mismatch', actor, '')
end
return { 'ok' }
