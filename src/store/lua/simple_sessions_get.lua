#!lua
-- Reads a session and slides its idle timeout.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 touch interval ms (-1: the default of the session),
--       4 'token' when the caller has proved a secure session's token, else 'id': an id opens no secure session
-- Returns {'ok', session_id, record, fields} or {'not_found'}
-- @include includes/slide
local now = now_ms()
local r = record_read_of_tenant(ARGV[1], now, ARGV[2])
if not r or (r.kind == KIND_SECURE) ~= (ARGV[4] == 'token') then return { 'not_found' } end
touch(r, now, tonumber(ARGV[3]))
return { 'ok', r.id, record_pack(r), record_fields(r) }
