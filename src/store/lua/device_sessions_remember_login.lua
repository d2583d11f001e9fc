#!lua flags=allow-oom
-- Remembers the user who logged in last on a device, in the device's own partition. It is a hint: a reader must check it
-- against the user's devices. The newest login wins, in whatever order the hints arrive.
-- Used by CreateSession, CreateHashSession, CreateSecureSession, CreateDeviceSession, RegenerateSession
-- KEYS  DEVICE_HINT
-- ARGV  owner, login_ms, absolute_expires_ms (of the session)
-- Returns {'ok'}
local DEVICE_HINT = unpack(KEYS)
local owner, login_ms, absolute_expires_ms = ARGV[1], ARGV[2], ARGV[3]
local newest_ms = string.match(redis.call('GET', DEVICE_HINT) or '', '^(%d+) ')
if not newest_ms or tonumber(newest_ms) <= tonumber(login_ms) then
  redis.call('SET', DEVICE_HINT, login_ms .. ' ' .. owner)
  redis.call('PEXPIREAT', DEVICE_HINT, absolute_expires_ms)
end
return { 'ok' }
