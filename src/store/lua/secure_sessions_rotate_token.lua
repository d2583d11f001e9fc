#!lua
-- Replaces the secret of a secure session by compare-and-swap on its digest, so one of N concurrent callers wins.
-- Used by RotateToken
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), presented_secret (SHA-256), new_secret (SHA-256),
--       grace_ms (of the presented one), audit_retention_ms, actor
-- Returns {'ok', session_id, record, fields}, {'not_found'}, {'rotated_concurrently'} or {'reused'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, presented_secret, new_secret = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local grace_ms, audit_retention_ms, actor = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
-- @include includes/secret
-- @include includes/record_changed
local r, state = secret_present(session_id, owner_prefix, presented_secret, audit_retention_ms, actor)
if not r then return { state } end
if state == 'grace' then return { 'rotated_concurrently' } end
secret_replace(r, new_secret, grace_ms)
record_changed(r, true, audit_retention_ms, 'rotated', actor, '')
return { 'ok', r.id, record_pack(r), record_fields(r) }
