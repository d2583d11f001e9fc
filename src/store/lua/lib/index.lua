-- Deadlines and indexes of a session: its TTLs, the user's index and devices, and the partition's live set. They change
-- together.
-- @include lib/record

-- `<session_id> <owner>`, and the device of a device session: all that is left to know when the record has expired.
local function live_member(id, owner, device)
  return device == '' and id .. ' ' .. owner or id .. ' ' .. owner .. ' ' .. device
end

-- The user's index, order and devices live exactly as long as the longest-lived session.
local function user_index_expire(owner)
  local last = redis.call('ZREVRANGE', user_key(owner), 0, 0, 'WITHSCORES')
  if not last[2] then return end
  local deadline = int(tonumber(last[2]))
  redis.call('PEXPIREAT', user_key(owner), deadline)
  redis.call('PEXPIREAT', order_key(owner), deadline)
  redis.call('PEXPIREAT', devices_key(owner), deadline)
end

-- Drops the dead from the user's index; the sweep (sessions_expire) tells the watchers of them.
local function user_index_trim(owner, now)
  redis.call('ZREMRANGEBYSCORE', user_key(owner), '-inf', '(' .. int(now))
end

-- After sessions were put or removed: once for all of one user.
local function index_settle(owner, now)
  user_index_trim(owner, now)
  user_index_expire(owner)
end

-- Puts the session's deadline, and the time of its last access, wherever they count.
local function index_put(r, now)
  local expires = int(r.expires)
  redis.call('PEXPIREAT', record_key(r.id), expires)
  if r.kind == KIND_HASH then redis.call('PEXPIREAT', fields_key(r.id), expires) end
  redis.call('ZADD', LIVE, expires, live_member(r.id, r.owner, r.device))
  redis.call('ZADD', user_key(r.owner), expires, r.id)
  -- Only some users have an order: see lib/order.
  if redis.call('EXISTS', order_key(r.owner)) == 1 then
    redis.call('ZADD', order_key(r.owner), int(r.accessed), r.id)
  end
  if r.device ~= '' then redis.call('HSET', devices_key(r.owner), r.device, r.id) end
  index_settle(r.owner, now)
end

-- The caller settles the user's index.
local function index_remove(id, owner, device)
  redis.call('ZREM', LIVE, live_member(id, owner, device))
  redis.call('ZREM', user_key(owner), id)
  redis.call('ZREM', order_key(owner), id)
  if device ~= '' and redis.call('HGET', devices_key(owner), device) == id then
    redis.call('HDEL', devices_key(owner), device)
  end
end
