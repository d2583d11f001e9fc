#!lua flags=allow-oom
-- Ends the session of a user on a device.
-- Used by RevokeDevice
-- KEYS  USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, LIVE, LOG, TAIL, META
-- ARGV  device, audit_retention_ms, by, note
-- Returns {'ok'} or {'not_found'}
local USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, LIVE, LOG, TAIL, META = unpack(KEYS)
local device, audit_retention_ms, by, note = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
-- @include includes/record
-- @include includes/finish
local id = redis.call('HGET', DEVICES, device)
local r = id and record_read_exact(id)
if not r then return { 'not_found' } end
finish(r, audit_retention_ms, 'device_revoked', by, note)
return { 'ok' }
