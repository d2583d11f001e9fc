-- Deadlines and indexes of a session: its TTLs, the user's indexes, and the partition's live set. They change together.
-- A session that a timeout ends stays in the user's indexes until the sweep (sweep_expired) has recorded its end. So every
-- reader of the indexes also reads the record, or selects deadlines that have not passed.
-- @include includes/opener
-- @include includes/partition
-- @include includes/time
-- The score of a session in its user's index is 4 times its deadline in ms, plus 2 if its token opens it, plus 1 if its
-- absolute timeout comes first. So the sweep knows what it reports although the record is gone. Whole numbers take the least
-- memory.

-- How long the user's indexes wait for a sweep after the last deadline. If one went away before, its sessions would stay in
-- the tenant's count for ever.
local SWEPT_WITHIN_MS = 400 * 86400000

local function index_score(r)
  return 4 * r.expires + (opener(r) == 't' and 2 or 0) + (r.expires == r.absolute and 1 or 0)
end

-- Returns the deadline of a score.
local function index_deadline(score) return math.floor(tonumber(score) / 4) end

-- Returns of a score whether a token opens the session, and whether its absolute timeout comes first.
local function index_score_bits(score)
  local bits = tonumber(score) % 4
  return bits >= 2, bits % 2 == 1
end

-- Returns the ids of at most `limit` sessions of a user whose deadlines have passed.
local function index_expired(owner, limit)
  return redis.call('ZRANGEBYSCORE', user_key(owner), '-inf', '(' .. int(4 * now), 'LIMIT', 0, limit)
end

-- Writes the user's first deadline to the live set. Call it once after sessions of the user were put or removed.
local function index_settle(owner)
  local first = redis.call('ZRANGE', user_key(owner), 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', LIVE, int(index_deadline(first[2])), owner)
  else
    redis.call('ZREM', LIVE, owner)
  end
end

-- Returns the number of live sessions of a user.
local function index_count(owner) return redis.call('ZCOUNT', user_key(owner), int(4 * now), '+inf') end

-- Writes the session's deadline and last access to its TTLs and to the indexes. The user's indexes outlive the last
-- deadline.
local function index_put(r)
  local expires = int(r.expires)
  redis.call('PEXPIREAT', record_key(r.id), expires)
  redis.call('PEXPIREAT', fields_key(r.id), expires)
  redis.call('ZADD', user_key(r.owner), int(index_score(r)), r.id)
  local last = redis.call('ZREVRANGE', user_key(r.owner), 0, 0, 'WITHSCORES')
  local ends = int(index_deadline(last[2]) + SWEPT_WITHIN_MS)
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
