-- The live sessions of a tenant in this partition: their count, and the index of their ids in the order of creation.
--   c:<tenant>           how many there are
--   m:<tenant>           how many of them the index lacks, because SA_TENANT_INDEX was false when they were created
--   n:<tenant>           zset: number of a segment -> order of its first entry
--   n:<tenant>:<number>  segment: entries in their order, each f64 order | 21 bytes session_id, or BLANK when it was removed
--   tenants              set: the tenants that have a count
-- All go away with the last session. A session that a timeout ends stays in all of them until the sweep has recorded its
-- end. An order is the time of creation in ms with a fraction; after a step back of the clock, orders go on from the last
-- one, so they always grow and no two are equal. A regeneration keeps the order.
-- @include includes/time
-- @include includes/partition
local ENTRY_BYTES, ORDER_BYTES, ID_BYTES = 29, 8, 21
-- A full segment with its header is just under 4 KiB, a size class of the store's allocator.
local SEGMENT_BYTES = 141 * ENTRY_BYTES
local BLANK = string.rep('\255', ID_BYTES)
-- The least step of an order. The store's clock has microseconds.
local ORDER_STEP = 0.001

local BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

local function base64url_value(character)
  if character >= 97 then return character - 71 end
  if character == 95 then return 63 end
  if character >= 65 then return character - 65 end
  if character >= 48 then return character + 4 end
  return 62
end

-- Returns the 21 bytes of a session_id.
local function id_pack(id)
  local bytes = {}
  for i = 1, #id, 4 do
    local a, b, c, d = string.byte(id, i, i + 3)
    local bits = base64url_value(a) * 262144 + base64url_value(b) * 4096 + base64url_value(c) * 64 + base64url_value(d)
    local low = bits % 65536
    bytes[#bytes + 1] = string.char((bits - low) / 65536, (low - low % 256) / 256, low % 256)
  end
  return table.concat(bytes)
end

-- Returns the session_id of 21 bytes.
local function id_unpack(bytes)
  local text = {}
  for i = 1, ID_BYTES, 3 do
    local a, b, c = string.byte(bytes, i, i + 2)
    local first, second, third = (a - a % 4) / 4, a % 4 * 16 + (b - b % 16) / 16, b % 16 * 4 + (c - c % 64) / 64
    local fourth = c % 64
    text[#text + 1] = string.char(
      string.byte(BASE64URL, first + 1),
      string.byte(BASE64URL, second + 1),
      string.byte(BASE64URL, third + 1),
      string.byte(BASE64URL, fourth + 1)
    )
  end
  return table.concat(text)
end

-- Formats an order so that no bit is lost.
local function order_text(order) return string.format('%.17g', order) end

-- The segments that this script has read, by their keys: a sweep removes many sessions, and may search all for each.
local segments = {}

local function segment_read(key)
  segments[key] = segments[key] or redis.call('GET', key)
  return segments[key]
end

-- SET takes no more room than the bytes; a string that was appended to has room for twice as many.
local function segment_write(key, bytes)
  segments[key] = bytes
  redis.call('SET', key, bytes)
end

local function segment_delete(tenant, number)
  local key = segment_key(tenant, number)
  segments[key] = nil
  redis.call('DEL', key)
  redis.call('ZREM', index_key(tenant), number)
end

local function index_append(tenant, r)
  local newest, order, id = redis.call('ZRANGE', index_key(tenant), -1, -1)[1], r.created, id_pack(r.id)
  if newest then
    local key = segment_key(tenant, newest)
    order = math.max(order, struct.unpack('>d', redis.call('GETRANGE', key, -ENTRY_BYTES, -1)) + ORDER_STEP)
    if redis.call('STRLEN', key) < SEGMENT_BYTES then
      segments[key] = nil
      redis.call('APPEND', key, struct.pack('>d', order) .. id)
      return
    end
    segment_write(key, redis.call('GET', key))
  end
  local number = int(tonumber(newest or 0) + 1)
  redis.call('ZADD', index_key(tenant), order_text(order), number)
  redis.call('SET', segment_key(tenant, number), struct.pack('>d', order) .. id)
end

-- Returns the number of the segment that has the session, and the offset of its id there; nil if the index lacks it.
-- `created` only says where to look first; nil if it is not known.
local function index_find(tenant, id, created)
  local packed = id_pack(id)
  local function offset_in(number)
    local at = string.find(segment_read(segment_key(tenant, number)), packed, 1, true)
    return at and at - 1
  end
  if created then
    local number = redis.call('ZREVRANGEBYSCORE', index_key(tenant), order_text(created), '-inf', 'LIMIT', 0, 1)[1]
    local offset = number and offset_in(number)
    if offset then return number, offset end
  end
  for _, number in ipairs(redis.call('ZRANGE', index_key(tenant), 0, -1)) do
    local offset = offset_in(number)
    if offset then return number, offset end
  end
  return nil
end

local function blanks_in(segment)
  local blanks, at = 0, string.find(segment, BLANK, 1, true)
  while at do
    blanks = blanks + 1
    at = string.find(segment, BLANK, at + ID_BYTES, true)
  end
  return blanks
end

-- Writes a segment without its blank entries, together with a neighbour if both fit into one.
local function segment_compact(tenant, number, segment)
  local kept = {}
  for at = 1, #segment, ENTRY_BYTES do
    local entry = string.sub(segment, at, at + ENTRY_BYTES - 1)
    if string.sub(entry, ORDER_BYTES + 1) ~= BLANK then kept[#kept + 1] = entry end
  end
  local bytes = table.concat(kept)
  local rank = redis.call('ZRANK', index_key(tenant), number)
  local older = rank > 0 and redis.call('ZRANGE', index_key(tenant), rank - 1, rank - 1)[1]
  local newer = redis.call('ZRANGE', index_key(tenant), rank + 1, rank + 1)[1]
  local function fits(neighbour)
    return neighbour and redis.call('STRLEN', segment_key(tenant, neighbour)) + #bytes <= SEGMENT_BYTES
  end
  if fits(older) then
    segment_delete(tenant, number)
    segment_write(segment_key(tenant, older), segment_read(segment_key(tenant, older)) .. bytes)
  elseif fits(newer) then
    bytes = bytes .. segment_read(segment_key(tenant, newer))
    segment_delete(tenant, newer)
    segment_write(segment_key(tenant, number), bytes)
  else
    segment_write(segment_key(tenant, number), bytes)
  end
end

-- Writes the 21 bytes of an id, or BLANK, over those of an entry. Returns the segment.
local function entry_write(tenant, number, offset, bytes)
  local key = segment_key(tenant, number)
  local segment = segment_read(key)
  segments[key] = string.sub(segment, 1, offset) .. bytes .. string.sub(segment, offset + ID_BYTES + 1)
  redis.call('SETRANGE', key, offset, bytes)
  return segments[key]
end

-- Removes a session from the index. Returns false if the index lacks it.
local function index_cut(tenant, r)
  local number, offset = index_find(tenant, r.id, r.created)
  if not number then return false end
  local segment = entry_write(tenant, number, offset, BLANK)
  local entries, blanks = #segment / ENTRY_BYTES, blanks_in(segment)
  if blanks == entries then
    segment_delete(tenant, number)
  elseif blanks * 4 > entries then
    segment_compact(tenant, number, segment)
  end
  return true
end

local function tenant_of(owner) return string.match(owner, '^[^:]*') end

-- Subtracts one; the key goes away at 0.
local function count_down(key)
  local left = redis.call('DECR', key)
  if left <= 0 then redis.call('DEL', key) end
  return left
end

-- Call it once for each new session, with whether SA_TENANT_INDEX is true.
local function tenant_add(r, indexed)
  local tenant = tenant_of(r.owner)
  if redis.call('INCR', count_key(tenant)) == 1 then redis.call('SADD', TENANTS_KEY, tenant) end
  if indexed then index_append(tenant, r) else redis.call('INCR', unindexed_key(tenant)) end
end

-- Call it once for each session that ends. `created` may be nil.
local function tenant_remove(r)
  local tenant = tenant_of(r.owner)
  if count_down(count_key(tenant)) <= 0 then redis.call('SREM', TENANTS_KEY, tenant) end
  if not index_cut(tenant, r) then count_down(unindexed_key(tenant)) end
end

-- Call it once for each session that gets another id, instead of the two above.
local function tenant_replace(r, old_id)
  local tenant = tenant_of(r.owner)
  local number, offset = index_find(tenant, old_id, r.created)
  if number then entry_write(tenant, number, offset, id_pack(r.id)) end
end
