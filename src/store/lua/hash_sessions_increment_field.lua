#!lua
-- Adds to an int64 field of a hash session and slides its idle timeout.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 field, 4 delta, 5 most fields, 6 audit retention ms, 7 actor
-- Returns {'ok', the new value as text}, {'not_found'}, {'not_a_hash_session'}, {'field_limit'}, {'not_an_integer'} or
--         {'overflow'}
-- @include includes/changed
local now = now_ms()
local r = record_read_of_tenant(ARGV[1], now, ARGV[2])
if not r then return { 'not_found' } end
if r.kind ~= KIND_HASH then return { 'not_a_hash_session' } end
if redis.call('HEXISTS', fields_key(r.id), ARGV[3]) == 0 and redis.call('HLEN', fields_key(r.id)) >= tonumber(ARGV[5]) then
  return { 'field_limit' }
end
local reply = redis.pcall('HINCRBY', fields_key(r.id), ARGV[3], ARGV[4])
if type(reply) == 'table' and reply.err then
  if string.find(reply.err, 'overflow', 1, true) then return { 'overflow' } end
  if string.find(reply.err, 'not an integer', 1, true) then return { 'not_an_integer' } end
  return reply
end
-- The reply of HINCRBY is a double here, exact only to 2^53; the stored text is exact.
local value = redis.call('HGET', fields_key(r.id), ARGV[3])
record_changed(r, now, tonumber(ARGV[6]), 'data_updated', ARGV[7], '')
return { 'ok', value }
