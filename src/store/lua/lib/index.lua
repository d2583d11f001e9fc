-- Deadlines and indexes of a session: its TTLs, the user's index and the partition's live set. They change together.
-- @include lib/record

local function live_member(id, owner) return id .. ' ' .. owner end

-- The user's index lives exactly as long as the longest-lived session in it.
local function user_index_expire(owner)
  local last = redis.call('ZREVRANGE', user_key(owner), 0, 0, 'WITHSCORES')
  if last[2] then redis.call('PEXPIREAT', user_key(owner), int(tonumber(last[2]))) end
end

-- Drops the dead from the user's index; the sweep (sessions_expire) tells the watchers of them.
local function user_index_trim(owner, now)
  redis.call('ZREMRANGEBYSCORE', user_key(owner), '-inf', '(' .. int(now))
end

-- Puts the session's deadline wherever it counts.
local function index_put(r, now)
  local expires = int(r.expires)
  redis.call('PEXPIREAT', record_key(r.id), expires)
  if r.kind == KIND_HASH then redis.call('PEXPIREAT', fields_key(r.id), expires) end
  redis.call('ZADD', LIVE, expires, live_member(r.id, r.owner))
  redis.call('ZADD', user_key(r.owner), expires, r.id)
  user_index_trim(r.owner, now)
  user_index_expire(r.owner)
end

local function index_remove(id, owner, now)
  redis.call('ZREM', LIVE, live_member(id, owner))
  redis.call('ZREM', user_key(owner), id)
  user_index_trim(owner, now)
  user_index_expire(owner)
end
