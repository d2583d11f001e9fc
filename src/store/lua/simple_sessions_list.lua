#!lua flags=no-writes
-- Reads one page of a user's live sessions in the order of creation or against it. No access and no regeneration changes
-- this order. A page ends only between two times of creation, because nothing but the id, which a regeneration changes,
-- distinguishes sessions of one time.
-- Used by ListUserSessions, ListUserDevices, ListSessions, EndSessions
-- KEYS  USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, LIVE, LOG, TAIL, META
-- ARGV  order ('oldest' or 'newest' first), after_created (ms with a fraction; empty: from the beginning), page_size,
--       page_bytes (a page of so many bytes is full), which ('all', or 'devices': only those on a device)
-- Returns {'ok', 1 if there are more else 0, then session_id, record, fields of each}
local USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, LIVE, LOG, TAIL, META = unpack(KEYS)
local order, after_created, page_size = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local page_bytes, which = tonumber(ARGV[4]), ARGV[5]
-- @include includes/record
-- In the header, the time of creation is the field before the last access.
local CREATED_OFFSET = ACCESSED_OFFSET - 8

local function is_before(a, b)
  if order == 'newest' then a, b = b, a end
  return a.created < b.created
end

local after, entries = { created = after_created }, {}
for _, id in ipairs(which == 'devices' and redis.call('HVALS', DEVICES) or redis.call('ZRANGE', USER_INDEX, 0, -1)) do
  local raw = redis.call('GETRANGE', record_key(id), CREATED_OFFSET, CREATED_OFFSET + 7)
  if raw ~= '' then
    local entry = { id = id, created = struct.unpack('>d', raw) }
    if not after_created or is_before(after, entry) then entries[#entries + 1] = entry end
  end
end
table.sort(entries, is_before)

local bytes, last_created, reply = 0, nil, { 'ok', 0 }
for _, entry in ipairs(entries) do
  local r = record_read_exact(entry.id)
  local is_full = (#reply - 2) / 3 >= page_size or bytes >= page_bytes
  if r and is_full and entry.created ~= last_created then
    reply[2] = 1
    break
  end
  if r then
    local raw, fields = record_pack(r), record_fields(r)
    bytes, last_created = bytes + #raw, entry.created
    for _, text in ipairs(fields) do bytes = bytes + #text end
    reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = entry.id, raw, fields
  end
end
return reply
