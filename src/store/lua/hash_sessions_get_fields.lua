#!lua
-- Reads fields of a hash session, as they were at one instant, and slides its idle timeout.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 touch interval ms (-1: the default), 4… names (none: all fields)
-- Returns {'ok', names and values of the fields that exist}, {'not_found'} or {'not_a_hash_session'}
-- @include includes/slide
local now = now_ms()
local r = record_read_of_tenant(ARGV[1], now, ARGV[2])
if not r then return { 'not_found' } end
if r.kind ~= KIND_HASH then return { 'not_a_hash_session' } end
touch(r, now, tonumber(ARGV[3]))
if #ARGV == 3 then return { 'ok', record_fields(r) } end
local fields = {}
for i = 4, #ARGV do
  local value = redis.call('HGET', fields_key(r.id), ARGV[i])
  if value then
    fields[#fields + 1] = ARGV[i]
    fields[#fields + 1] = value
  end
end
return { 'ok', fields }
