#!lua flags=allow-oom
-- Ends a secure session for who holds its secret; a reused secret ends it too, as a reuse.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 SHA-256 of the secret, 4 audit retention ms, 5 actor
-- Returns {'ok'}, {'not_found'} or {'reused'}
-- @include includes/secret
local now = now_ms()
local r, state = secret_present(ARGV[1], ARGV[2], ARGV[3], now, tonumber(ARGV[4]), ARGV[5])
if not r then return { state } end
finish(r, now, 'revoked', ARGV[5], '')
audit_append(r.owner, now, tonumber(ARGV[4]), 'revoked', r.id, '', ARGV[5], '')
return { 'ok' }
