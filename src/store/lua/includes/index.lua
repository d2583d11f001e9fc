-- Deadlines and indexes of a session: its TTLs, the user's indexes, and the partition's live set. They change together.
-- A session that a timeout ends stays in the user's indexes until the sweep (sweep_expired) has told of it: whoever
-- reads them asks for the record, or for deadlines that have not passed.
-- @include includes/record

-- How long the user's indexes wait for a sweep after the last deadline: as long as a tombstone would tell of it.
local SWEPT_WITHIN_MS = 7 * 86400000

-- After sessions were put or removed, once for all of one user: the live set has the user by the first deadline.
local function index_settle(owner)
  local first = redis.call('ZRANGE', user_key(owner), 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', LIVE, int(tonumber(first[2])), owner)
  else
    redis.call('ZREM', LIVE, owner)
  end
end

-- How many sessions a user has.
local function index_count(owner, now)
  return redis.call('ZCOUNT', user_key(owner), int(now), '+inf')
end

-- Puts the session's deadline, and the time of its last access, wherever they count. The user's indexes outlive the last
-- deadline.
local function index_put(r)
  local expires = int(r.expires)
  redis.call('PEXPIREAT', record_key(r.id), expires)
  if r.kind == KIND_HASH then redis.call('PEXPIREAT', fields_key(r.id), expires) end
  redis.call('ZADD', user_key(r.owner), expires, r.id)
  local last = redis.call('ZREVRANGE', user_key(r.owner), 0, 0, 'WITHSCORES')
  local ends = int(tonumber(last[2]) + SWEPT_WITHIN_MS)
  redis.call('PEXPIREAT', user_key(r.owner), ends)
  -- Only some users have an order: see includes/order.
  if redis.call('EXISTS', order_key(r.owner)) == 1 then
    redis.call('ZADD', order_key(r.owner), int(r.accessed), r.id)
    redis.call('PEXPIREAT', order_key(r.owner), ends)
  end
  if r.device ~= '' then
    redis.call('HSET', devices_key(r.owner), r.device, r.id)
    redis.call('PEXPIREAT', devices_key(r.owner), ends)
  end
  index_settle(r.owner)
end

-- The caller settles the user's index.
local function index_remove(id, owner, device)
  redis.call('ZREM', user_key(owner), id)
  redis.call('ZREM', order_key(owner), id)
  if device ~= '' and redis.call('HGET', devices_key(owner), device) == id then
    redis.call('HDEL', devices_key(owner), device)
  end
end
