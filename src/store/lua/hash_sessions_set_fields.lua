#!lua
-- Writes and removes fields of a hash session and slides its idle timeout.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 expected version (0: any), 4 most fields, 5 audit retention ms,
--       6 actor, 7 how many fields to write, then their names and values, then the names to remove
-- Returns {'ok', session_id, record, fields}, {'not_found'}, {'not_a_hash_session'}, {'version_mismatch'} or {'field_limit'}
-- @include includes/changed
local now = now_ms()
local r = record_read_of_tenant(ARGV[1], now, ARGV[2])
if not r then return { 'not_found' } end
if r.kind ~= KIND_HASH then return { 'not_a_hash_session' } end
local expected_version = tonumber(ARGV[3])
if expected_version ~= 0 and expected_version ~= r.version then return { 'version_mismatch' } end

local writes, removed = {}, {}
local last_write = 7 + 2 * tonumber(ARGV[7])
for i = last_write + 1, #ARGV do removed[ARGV[i]] = true end
for i = 8, last_write, 2 do
  if not removed[ARGV[i]] then writes[ARGV[i]] = ARGV[i + 1] end
end
-- Counted before anything is written: a refused change leaves nothing behind.
local count = redis.call('HLEN', fields_key(r.id))
for name in pairs(writes) do count = count + 1 - redis.call('HEXISTS', fields_key(r.id), name) end
for name in pairs(removed) do count = count - redis.call('HEXISTS', fields_key(r.id), name) end
if count > tonumber(ARGV[4]) then return { 'field_limit' } end

for name, value in pairs(writes) do redis.call('HSET', fields_key(r.id), name, value) end
for name in pairs(removed) do redis.call('HDEL', fields_key(r.id), name) end
record_changed(r, now, tonumber(ARGV[5]), 'data_updated', ARGV[6], '')
return { 'ok', r.id, record_pack(r), record_fields(r) }
