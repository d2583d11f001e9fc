#!lua
-- Reads a session and slides its idle timeout.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 touch interval ms (-1: the default of the session)
-- Returns {'ok', record, fields} or {'not_found'}
-- @include lib/slide
local now = now_ms()
local r = record_read_of_tenant(ARGV[1], now, ARGV[2])
if not r then return { 'not_found' } end
touch(r, now, tonumber(ARGV[3]))
return { 'ok', record_pack(r), record_fields(r) }
