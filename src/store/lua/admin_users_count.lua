#!lua flags=no-writes
-- Counts the sessions of some users of one partition; one that a timeout has ended counts until the sweep has reported it.
-- Used by ListTopUsers
-- KEYS  LIVE, LOG, TAIL, META
-- ARGV  owner_prefix (of the tenant; empty: of all), cursor ('0': from the beginning), users (about how many to read),
--       minimum (users with fewer sessions are left out)
-- Returns {'ok', next cursor ('0': no more users), then owner and number of sessions of each}
local LIVE, LOG, TAIL, META = unpack(KEYS)
local owner_prefix, cursor, users, minimum = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
-- @include includes/moving
local next_cursor, entries = unpack(redis.call('ZSCAN', LIVE, cursor, 'COUNT', users))
local reply = { 'ok', next_cursor }
for i = 1, #entries, 2 do
  local owner = entries[i]
  if string.sub(owner, 1, #owner_prefix) == owner_prefix and not is_anonymous(owner) then
    local count = redis.call('ZCARD', user_key(owner))
    if count >= minimum then reply[#reply + 1], reply[#reply + 2] = owner, count end
  end
end
return reply
