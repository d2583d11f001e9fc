#!lua flags=allow-oom
-- Decides about a secret that is not the current one: good within its grace, else a reuse, which ends the session.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 SHA-256 of the secret, 4 audit retention ms, 5 actor
-- Returns {'ok', session_id, record}, {'not_found'} or {'reused'}
-- @include lib/secret
local now = now_ms()
local r = record_read_of_tenant(ARGV[1], now, ARGV[2])
if not r or r.kind ~= KIND_SECURE then return { 'not_found' } end
local state = secret_state(r, ARGV[3], now)
if state == 'void' then return { 'not_found' } end
if state == 'stale' then
  secret_reused(r, now, tonumber(ARGV[4]), ARGV[5])
  return { 'reused' }
end
return { 'ok', r.id, record_pack(r) }
