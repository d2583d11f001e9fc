#!lua
-- Reads the live session of a user on a device and slides its idle timeout.
-- KEYS  user index, audit, devices, last revoke-all, live, log, tail, meta
-- ARGV  1 device, 2 touch interval ms (-1: the default of the session)
-- Returns {'ok', session_id, record} or {'not_found'}
-- @include includes/slide
local now = now_ms()
local id = redis.call('HGET', KEYS[3], ARGV[1])
local r = id and record_read_exact(id, now)
if not r then return { 'not_found' } end
touch(r, now, tonumber(ARGV[2]))
return { 'ok', r.id, record_pack(r) }
