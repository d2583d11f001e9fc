#!lua flags=allow-oom
-- Reads fields of a session, as they were at one instant, and slides its idle timeout.
-- Used by GetSessionField, GetSessionFields
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), touch_interval_ms (-1: the session's default; -2: not at all),
--       names… (none: all fields)
-- Returns {'ok', names and values of the fields that exist} or {'not_found'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, touch_interval_ms, names = ARGV[1], ARGV[2], tonumber(ARGV[3]), { unpack(ARGV, 4) }
-- @include includes/slide
local r = record_read_of_tenant(session_id, owner_prefix)
if not r then return { 'not_found' } end
touch(r, touch_interval_ms)
if #names == 0 then return { 'ok', record_fields(r) } end
local values, fields = redis.call('HMGET', fields_key(r.id), unpack(names)), {}
for i, name in ipairs(names) do
  if values[i] then fields[#fields + 1], fields[#fields + 2] = name, values[i] end
end
return { 'ok', fields }
