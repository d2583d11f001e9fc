#!lua flags=allow-oom
-- Decides about a secret that is not the current one: good within its grace, else a reuse, which ends the session.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 SHA-256 of the secret, 4 audit retention ms, 5 actor
-- Returns {'ok', session_id, record}, {'not_found'} or {'reused'}
-- @include includes/secret
local now = now_ms()
local r, state = secret_present(ARGV[1], ARGV[2], ARGV[3], now, tonumber(ARGV[4]), ARGV[5])
if not r then return { state } end
return { 'ok', r.id, record_pack(r) }
