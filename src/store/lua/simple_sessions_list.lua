#!lua
-- One page of a user's live sessions, in the order of their ids: an order that nothing changes.
-- KEYS  user index, audit, devices, last revoke-all, live, log, tail, meta
-- ARGV  1 owner, 2 the session_id to begin after (empty: the beginning), 3 page size, 4 how many bytes close a page,
--       5 'all', or 'devices': only device sessions
-- Returns {'ok', 1 if there are more else 0, then session_id, record, fields of each}
-- @include includes/index
local now = now_ms()
local found = ARGV[5] == 'devices' and redis.call('HVALS', KEYS[3]) or redis.call('ZRANGE', KEYS[1], 0, -1)
local ids = {}
for _, id in ipairs(found) do
  if id > ARGV[2] then ids[#ids + 1] = id end
end
table.sort(ids)

local page_size, page_bytes, bytes = tonumber(ARGV[3]), tonumber(ARGV[4]), 0
local reply = { 'ok', 0 }
for _, id in ipairs(ids) do
  local r = record_read_exact(id, now)
  if r and ((#reply - 2) / 3 >= page_size or bytes >= page_bytes) then
    reply[2] = 1
    break
  end
  if r then
    local raw, fields = record_pack(r), record_fields(r)
    bytes = bytes + #raw
    for _, text in ipairs(fields) do bytes = bytes + #text end
    reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = id, raw, fields
  end
end
return reply
