#!lua
-- Adds to an int64 field of a session and slides its idle timeout.
-- Used by IncrementSessionField
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), owner (whose session it must be; empty: any user's), name, delta,
--       max_fields, slides ('1', or '0' if it is no access), audit_retention_ms, by
-- Returns {'ok', the new value as text}, {'not_found'}, {'moving'}, {'field_limit'}, {'not_an_integer'} or
--         {'overflow'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, owner, name, delta = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local max_fields, slides, audit_retention_ms, by = tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8]), ARGV[9]
-- @include includes/moving
-- @include includes/record_changed
local r = record_read_of_owner(session_id, owner_prefix, owner)
if not r then return { 'not_found' } end
if is_moving(r) then return { 'moving' } end
if redis.call('HEXISTS', fields_key(r.id), name) == 0 and redis.call('HLEN', fields_key(r.id)) >= max_fields then
  return { 'field_limit' }
end
local reply = redis.pcall('HINCRBY', fields_key(r.id), name, delta)
if type(reply) == 'table' and reply.err then
  if string.find(reply.err, 'overflow', 1, true) then return { 'overflow' } end
  if string.find(reply.err, 'not an integer', 1, true) then return { 'not_an_integer' } end
  return reply
end
-- The reply of HINCRBY is a double in Lua, exact only to 2^53; the stored text is exact.
local value = redis.call('HGET', fields_key(r.id), name)
record_changed(r, slides, audit_retention_ms, 'data_updated', by, '')
return { 'ok', value }
