-- Eviction in the order of last access; of two sessions with the same time, the one whose id is less byte by byte goes
-- first. Up to CROWDED sessions are read one by one. A user with more has an index, which is built by the first eviction
-- and kept by index_put and index_remove from then on.
-- @include includes/index
local CROWDED = 64

-- Lua compares strings by locale; a sorted set, whose order this must equal, compares bytes.
local function bytes_less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- Calls visit(id, last access ms) for each session of the user.
local function each_access(owner, visit)
  for _, id in ipairs(redis.call('ZRANGE', user_key(owner), 0, -1)) do
    local accessed = redis.call('GETRANGE', record_key(id), ACCESSED_OFFSET, ACCESSED_OFFSET + 7)
    if accessed ~= '' then visit(id, (struct.unpack('>d', accessed))) end
  end
end

local function oldest_of_few(owner)
  local by_access, taken = {}, 0
  each_access(owner, function(id, accessed) by_access[#by_access + 1] = { id = id, accessed = accessed } end)
  table.sort(by_access, function(a, b)
    if a.accessed ~= b.accessed then return a.accessed < b.accessed end
    return bytes_less(a.id, b.id)
  end)
  return function()
    taken = taken + 1
    return by_access[taken] and by_access[taken].id
  end
end

-- The TTL of the index is set by the index_put that follows every eviction.
local function oldest_of_crowd(owner)
  if redis.call('EXISTS', order_key(owner)) == 0 then
    each_access(owner, function(id, accessed) redis.call('ZADD', order_key(owner), int(accessed), id) end)
  end
  return function() return redis.call('ZRANGE', order_key(owner), 0, 0)[1] end
end

-- Calls evict(record), which must end the session, for the `count` least recently accessed sessions of a user, the oldest
-- first.
local function evict_oldest(owner, count, now, evict)
  if count <= 0 then return end
  local crowded = index_count(owner, now) > CROWDED
  if not crowded then redis.call('DEL', order_key(owner)) end
  local next_oldest = crowded and oldest_of_crowd(owner) or oldest_of_few(owner)
  while count > 0 do
    local id = next_oldest()
    if not id then return end
    local r = record_read_exact(id, now)
    if r then
      evict(r)
      count = count - 1
    else
      -- A timeout ended it and the sweep has not run since.
      redis.call('ZREM', order_key(owner), id)
    end
  end
end
