#!lua
-- Remembers who logged in last on a device: a hint, in the device's own partition, whose reader asks the user's devices. The
-- newest login wins, in whatever order the hints arrive.
-- KEYS  hint
-- ARGV  1 owner, 2 when the session was created, ms, 3 when it ends at the latest, ms
-- Returns {'ok'}
local created = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) ')
if not created or tonumber(created) <= tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[2] .. ' ' .. ARGV[1])
  redis.call('PEXPIREAT', KEYS[1], ARGV[3])
end
return { 'ok' }
