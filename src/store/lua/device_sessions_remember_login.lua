#!lua
-- Remembers the user who logged in last on a device, in the device's own partition. It is a hint: a reader must check it
-- against the user's devices. The newest login wins, in whatever order the hints arrive.
-- Used by CreateDeviceSession
-- KEYS  DEVICE_HINT
-- ARGV  owner, created_ms (of the session), absolute_expires_ms (of the session)
-- Returns {'ok'}
local DEVICE_HINT = unpack(KEYS)
local owner, created_ms, absolute_expires_ms = ARGV[1], ARGV[2], ARGV[3]
local newest_ms = string.match(redis.call('GET', DEVICE_HINT) or '', '^(%d+) ')
if not newest_ms or tonumber(newest_ms) <= tonumber(created_ms) then
  redis.call('SET', DEVICE_HINT, created_ms .. ' ' .. owner)
  redis.call('PEXPIREAT', DEVICE_HINT, absolute_expires_ms)
end
return { 'ok' }
