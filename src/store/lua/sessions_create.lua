#!lua
-- Creates a session of any kind: record, fields, indexes, change, audit entry and request id, all or nothing.
-- KEYS  record, fields, tombstone, user index, audit, request id, live, log, tail, meta
-- ARGV  1 session_id, 2 owner, 3 kind, 4 flags, 5 idle ms, 6 absolute ms, 7 device, 8 identity, 9 data,
--       10 request id's TTL in ms (0: there is none), 11 audit retention ms, 12 actor, 13… field names and values
-- Returns {'ok', session_id, record, fields} of the new session or of the one this request id made before;
--         {'request_id_reused'} it made one of another kind; {'request_id_spent'} the one it made is dead;
--         {'id_taken'} choose another session_id
-- @include lib/record
-- @include lib/index
-- @include lib/change
-- @include lib/audit
local now = now_ms()
local REQUEST, request_ttl = KEYS[6], tonumber(ARGV[10])

if request_ttl > 0 then
  local kind, id = string.match(redis.call('GET', REQUEST) or '', '^(%d+) (.+)$')
  if kind and kind ~= ARGV[3] then return { 'request_id_reused' } end
  if kind then
    local r = record_read(id, now)
    if not r then return { 'request_id_spent' } end
    return { 'ok', id, record_pack(r), record_fields(r) }
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('EXISTS', KEYS[3]) == 1 then return { 'id_taken' } end

local r = {
  id = ARGV[1], owner = ARGV[2], kind = tonumber(ARGV[3]), flags = tonumber(ARGV[4]), version = 1,
  created = now, accessed = now, idle = tonumber(ARGV[5]), absolute = now + tonumber(ARGV[6]),
  device = ARGV[7], identity = ARGV[8], data = ARGV[9],
}
r.expires = math.min(now + r.idle, r.absolute)
record_write(r)
local fields = {}
for i = 13, #ARGV do fields[#fields + 1] = ARGV[i] end
if #fields > 0 then redis.call('HSET', KEYS[2], unpack(fields)) end
index_put(r, now)
if request_ttl > 0 then redis.call('SET', REQUEST, ARGV[3] .. ' ' .. r.id, 'PX', ARGV[10]) end
change_append(now, 'created', r.id, r.owner, r.version, ARGV[12])
audit_append(r.owner, now, tonumber(ARGV[11]), 'created', r.id, ARGV[12], '')
return { 'ok', r.id, record_pack(r), fields }
