-- Deadlines and indexes of a session: its TTLs, the user's indexes, and the partition's live set. They change together.
-- A session that a timeout ends stays in the user's indexes until the sweep (sweep_expired) has recorded its end. So every
-- reader of the indexes also reads the record, or selects deadlines that have not passed.
-- @include includes/partition
-- @include includes/time
-- How long the user's indexes wait for a sweep after the last deadline: as long as a tombstone would be kept.
local SWEPT_WITHIN_MS = 7 * 86400000

-- Writes the user's first deadline to the live set. Call it once after sessions of the user were put or removed.
local function index_settle(owner)
  local first = redis.call('ZRANGE', user_key(owner), 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', LIVE, int(tonumber(first[2])), owner)
  else
    redis.call('ZREM', LIVE, owner)
  end
end

-- Returns the number of live sessions of a user.
local function index_count(owner) return redis.call('ZCOUNT', user_key(owner), int(now), '+inf') end

-- Writes the session's deadline and last access to its TTLs and to the indexes. The user's indexes outlive the last
-- deadline.
local function index_put(r)
  local expires = int(r.expires)
  redis.call('PEXPIREAT', record_key(r.id), expires)
  redis.call('PEXPIREAT', fields_key(r.id), expires)
  redis.call('ZADD', user_key(r.owner), expires, r.id)
  local last = redis.call('ZREVRANGE', user_key(r.owner), 0, 0, 'WITHSCORES')
  local ends = int(tonumber(last[2]) + SWEPT_WITHIN_MS)
  redis.call('PEXPIREAT', user_key(r.owner), ends)
  -- Only some users have an order index: see includes/order.
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

-- The caller calls index_settle after its last session.
local function index_remove(r)
  redis.call('ZREM', user_key(r.owner), r.id)
  redis.call('ZREM', order_key(r.owner), r.id)
  if r.device ~= '' and redis.call('HGET', devices_key(r.owner), r.device) == r.id then
    redis.call('HDEL', devices_key(r.owner), r.device)
  end
end
