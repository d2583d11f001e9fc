#!lua
-- Appends to the audit trail that a session, which an address mismatch does not end, was presented from another address than
-- its login's: once an hour for each address.
-- Used by GetSession, GetDeviceSession, ValidateSession, ValidateToken, BatchValidate, ValidateStream, RegenerateSession
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), presented_secret (SHA-256; empty: none was presented),
--       compared_identity (the segment of the record that has the login's address), address_digest, audit_retention_ms, by
-- Returns {'ok'}, {'not_found'}, or {'compare_address', session_id, record} if the caller must compare with this one first
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, presented_secret, compared_identity = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local address_digest, audit_retention_ms, by = ARGV[5], tonumber(ARGV[6]), ARGV[7]
-- @include includes/ip_binding
-- @include includes/secret
local r = record_read_of_tenant(session_id, owner_prefix)
if not r or (presented_secret ~= '' and not is_opened_by(r, presented_secret)) then return { 'not_found' } end
if not is_bound_as_compared(r, IP_BINDING_WARN, compared_identity) then
  return { 'compare_address', r.id, record_pack(r) }
end
ip_mismatch_note(r, address_digest, audit_retention_ms, by)
return { 'ok' }
