#!lua
-- Reads one page of a user's live sessions in the order of their ids, which no access changes.
-- Used by ListUserSessions, ListUserDevices
-- KEYS  USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, LIVE, LOG, TAIL, META
-- ARGV  after_session_id (empty: from the beginning), page_size, page_bytes (a page of so many bytes is full),
--       which ('all', or 'devices': only device sessions)
-- Returns {'ok', 1 if there are more else 0, then session_id, record, fields of each}
local USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, LIVE, LOG, TAIL, META = unpack(KEYS)
local after_session_id, page_size, page_bytes, which = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
-- @include includes/record
local ids = {}
for _, id in ipairs(which == 'devices' and redis.call('HVALS', DEVICES) or redis.call('ZRANGE', USER_INDEX, 0, -1)) do
  if id > after_session_id then ids[#ids + 1] = id end
end
table.sort(ids)

local bytes, reply = 0, { 'ok', 0 }
for _, id in ipairs(ids) do
  local r = record_read_exact(id)
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
