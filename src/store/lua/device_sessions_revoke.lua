#!lua flags=allow-oom
-- Ends the session of a user on a device.
-- KEYS  user index, audit, devices, last revoke-all, live, log, tail, meta
-- ARGV  1 device, 2 audit retention ms, 3 actor
-- Returns {'ok'} or {'not_found'}
-- @include includes/finish
-- @include includes/audit
local now = now_ms()
local id = redis.call('HGET', KEYS[3], ARGV[1])
local r = id and record_read_exact(id, now)
if not r then return { 'not_found' } end
finish(r, now, 'device_revoked', ARGV[3], '')
audit_append(r.owner, now, tonumber(ARGV[2]), 'device_revoked', r.id, r.device, ARGV[3], '')
return { 'ok' }
