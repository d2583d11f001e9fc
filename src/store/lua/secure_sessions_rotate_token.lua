#!lua
-- Replaces the secret of a secure session: a compare-and-swap on its digest, so one of N callers wins.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 SHA-256 of the presented secret, 4 SHA-256 of the new one,
--       5 grace ms of the presented one, 6 audit retention ms, 7 actor
-- Returns {'ok', session_id, record}, {'not_found'}, {'rotated_concurrently'} or {'reused'}
-- @include includes/secret
-- @include includes/changed
local now = now_ms()
local retention, actor = tonumber(ARGV[6]), ARGV[7]
local r, state = secret_present(ARGV[1], ARGV[2], ARGV[3], now, retention, actor)
if not r then return { state } end
if state == 'grace' then return { 'rotated_concurrently' } end
secret_replace(r, ARGV[4], now, tonumber(ARGV[5]))
record_changed(r, now, retention, 'rotated', actor, '')
return { 'ok', r.id, record_pack(r) }
