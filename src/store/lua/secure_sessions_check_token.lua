#!lua flags=allow-oom
-- Checks a secret that is not the current one: it is valid within its grace; after that its use ends the session.
-- Used by ValidateToken, BatchValidate, ValidateStream
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), presented_secret (SHA-256), audit_retention_ms, by
-- Returns {'ok', session_id, record}, {'not_found'} or {'reused'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, presented_secret = ARGV[1], ARGV[2], ARGV[3]
local audit_retention_ms, by = tonumber(ARGV[4]), ARGV[5]
-- @include includes/secret_check
local r, outcome = secret_present(session_id, owner_prefix, presented_secret, audit_retention_ms, by)
if not r then return { outcome } end
return { 'ok', r.id, record_pack(r) }
