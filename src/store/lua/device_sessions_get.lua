#!lua flags=allow-oom
-- Reads the live session of a user on a device and slides its idle timeout.
-- Used by GetDeviceSession
-- KEYS  USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, LIVE, LOG, TAIL, META
-- ARGV  device, touch_interval_ms (-1: the session's default; -2: not at all)
-- Returns {'ok', session_id, record, fields} or {'not_found'}
local USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, LIVE, LOG, TAIL, META = unpack(KEYS)
local device, touch_interval_ms = ARGV[1], tonumber(ARGV[2])
-- @include includes/slide
local id = redis.call('HGET', DEVICES, device)
local r = id and record_read_exact(id)
if not r then return { 'not_found' } end
touch(r, touch_interval_ms)
return { 'ok', r.id, record_pack(r), record_fields(r) }
