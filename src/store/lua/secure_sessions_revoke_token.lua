#!lua flags=allow-oom
-- Ends a secure session for a caller that holds its secret. A reused secret ends it too, with the reason token_reused.
-- Used by RevokeToken
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), presented_secret (SHA-256), audit_retention_ms, by, note
-- Returns {'ok'}, {'not_found'} or {'reused'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, presented_secret = ARGV[1], ARGV[2], ARGV[3]
local audit_retention_ms, by, note = tonumber(ARGV[4]), ARGV[5], ARGV[6]
-- @include includes/secret_check
local r, outcome = secret_present(session_id, owner_prefix, presented_secret, audit_retention_ms, by)
if not r then return { outcome } end
finish(r, audit_retention_ms, 'revoked', by, note)
return { 'ok' }
