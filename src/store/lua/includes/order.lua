-- Eviction in the order of last access; of two sessions with the same time, the one whose id is less byte by byte goes
-- first. Up to CROWDED sessions are read one by one. A user with more has an index, which is built by the first eviction
-- and kept by index_put and index_remove from then on.
-- @include includes/record
-- @include includes/finish
local CROWDED = 64

-- Lua compares strings by locale; a sorted set, whose order this must equal, compares bytes.
local function bytes_less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- Returns the id and the time of the last access of each session of the user.
local function accesses_of(owner)
  local accesses = {}
  for _, id in ipairs(redis.call('ZRANGE', user_key(owner), 0, -1)) do
    local raw = redis.call('GETRANGE', record_key(id), ACCESSED_OFFSET, ACCESSED_OFFSET + 7)
    if raw ~= '' then accesses[#accesses + 1] = { id = id, accessed = struct.unpack('>d', raw) } end
  end
  return accesses
end

local function accessed_before(a, b)
  if a.accessed ~= b.accessed then return a.accessed < b.accessed end
  return bytes_less(a.id, b.id)
end

local function oldest_of_few(owner)
  local accesses, taken = accesses_of(owner), 0
  table.sort(accesses, accessed_before)
  return function()
    taken = taken + 1
    return accesses[taken] and accesses[taken].id
  end
end

-- The TTL of the index is set by the index_put that follows every eviction.
local function oldest_of_crowd(owner)
  if redis.call('EXISTS', order_key(owner)) == 0 then
    for _, access in ipairs(accesses_of(owner)) do redis.call('ZADD', order_key(owner), int(access.accessed), access.id) end
  end
  return function() return redis.call('ZRANGE', order_key(owner), 0, 0)[1] end
end

-- Ends the `count` least recently accessed sessions of a user, the oldest first.
local function evict_oldest(owner, count, retention_ms, by)
  if count <= 0 then return end
  local crowded = index_count(owner) > CROWDED
  if not crowded then redis.call('DEL', order_key(owner)) end
  for id in crowded and oldest_of_crowd(owner) or oldest_of_few(owner) do
    local r = record_read_exact(id)
    if r then
      finish_one(r, retention_ms, 'evicted', by, '')
      count = count - 1
      if count == 0 then return end
    else
      -- A timeout ended it and the sweep has not run since.
      redis.call('ZREM', order_key(owner), id)
    end
  end
end

-- Returns the records of the user's live sessions for which `in_group` returns true, the least recently accessed first.
local function group_oldest_first(owner, in_group)
  local group = {}
  for _, id in ipairs(redis.call('ZRANGE', user_key(owner), 0, -1)) do
    local r = record_read_exact(id)
    if r and in_group(r) then group[#group + 1] = r end
  end
  table.sort(group, accessed_before)
  return group
end
