#!lua flags=no-writes
-- Reads the next live sessions of a tenant's index in one partition, in the order of creation or against it.
-- Used by ListSessions
-- KEYS  TENANT_INDEX
-- ARGV  tenant (percent-encoded), direction ('oldest' or 'newest' first), edge (an order; empty: from the beginning),
--       edge_included ('true': also the entry at the edge, else only those past it), count (the most sessions),
--       page_bytes (a page of so many bytes is full)
-- Returns {'ok', the order that the reply has got to (empty: the end of the index), then order, session_id, record of each}
local TENANT_INDEX = unpack(KEYS)
local tenant, direction, edge, edge_included = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local count, page_bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
-- @include includes/record
-- @include includes/tenant_index
-- These bound the time of the script when it meets many sessions that a timeout has ended.
local MOST_SEGMENTS, MOST_READS = 4, 200

local newest_first, edge_order = direction == 'newest', tonumber(edge)

local function next_segments()
  if newest_first then
    local from = edge == '' and '+inf' or (edge_included == 'true' and '' or '(') .. edge
    return redis.call('ZREVRANGEBYSCORE', TENANT_INDEX, from, '-inf', 'LIMIT', 0, MOST_SEGMENTS)
  end
  local first = edge ~= '' and redis.call('ZREVRANGEBYSCORE', TENANT_INDEX, edge, '-inf', 'LIMIT', 0, 1)[1]
  local rank = first and redis.call('ZRANK', TENANT_INDEX, first) or 0
  return redis.call('ZRANGE', TENANT_INDEX, rank, rank + MOST_SEGMENTS - 1)
end

local function is_past_edge(order)
  if not edge_order or (order == edge_order and edge_included == 'true') then return true end
  if newest_first then return order < edge_order end
  return order > edge_order
end

local reply, bytes, reads = { 'ok', '' }, 0, 0

local function is_alive(raw)
  local r = {}
  r.accessed, r.absolute, r.idle = struct.unpack('>ddd', raw, ACCESSED_OFFSET + 1)
  return deadline(r) >= now
end

-- Adds the session of an entry to the reply if it is alive. Returns true if the reply is full.
local function visit(segment, at)
  local order, packed = struct.unpack('>d', segment, at), string.sub(segment, at + ORDER_BYTES, at + ENTRY_BYTES - 1)
  if packed == BLANK or not is_past_edge(order) then return false end
  reads = reads + 1
  reply[2] = order_text(order)
  local id = id_unpack(packed)
  local raw = redis.call('GET', record_key(id))
  if raw and is_alive(raw) then
    bytes = bytes + #raw
    reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = reply[2], id, raw
  end
  return reads >= MOST_READS or bytes >= page_bytes or #reply - 2 >= count * 3
end

local found = next_segments()
for _, number in ipairs(found) do
  local segment = redis.call('GET', segment_key(tenant, number))
  local first, last, step = 1, #segment - ENTRY_BYTES + 1, ENTRY_BYTES
  if newest_first then first, last, step = last, first, -step end
  for at = first, last, step do
    if visit(segment, at) then return reply end
  end
end
-- Every segment has an entry that is not blank, so a reply that is not at the end has got past its edge.
if #found < MOST_SEGMENTS then reply[2] = '' end
return reply
