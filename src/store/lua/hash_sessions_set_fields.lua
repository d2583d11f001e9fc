#!lua
-- Writes and removes fields of a session and slides its idle timeout.
-- Used by SetSessionFields
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), owner (whose session it must be; empty: any user's),
--       expected_version (0: any), max_fields, slides ('1', or '0' if it is no access), audit_retention_ms, by,
--       write_count, changes… (names and values of so many fields to write, then names of fields to remove)
-- Returns {'ok', session_id, record, fields}, {'not_found'}, {'moving'}, {'version_mismatch'} or {'field_limit'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, owner = ARGV[1], ARGV[2], ARGV[3]
local expected_version, max_fields, slides = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local audit_retention_ms, by, write_count = tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9])
local changes = { unpack(ARGV, 10) }
-- @include includes/moving
-- @include includes/record_changed
local r = record_read_of_owner(session_id, owner_prefix, owner)
if not r then return { 'not_found' } end
if is_moving(r) then return { 'moving' } end
if expected_version ~= 0 and expected_version ~= r.version then return { 'version_mismatch' } end

local writes, removed = {}, {}
for i = 2 * write_count + 1, #changes do removed[changes[i]] = true end
for i = 1, 2 * write_count, 2 do
  if not removed[changes[i]] then writes[changes[i]] = changes[i + 1] end
end
-- The limit is checked before the first write, so a refused change has no effect.
local count = redis.call('HLEN', fields_key(r.id))
for name in pairs(writes) do count = count + 1 - redis.call('HEXISTS', fields_key(r.id), name) end
for name in pairs(removed) do count = count - redis.call('HEXISTS', fields_key(r.id), name) end
if count > max_fields then return { 'field_limit' } end

for name, value in pairs(writes) do redis.call('HSET', fields_key(r.id), name, value) end
for name in pairs(removed) do redis.call('HDEL', fields_key(r.id), name) end
record_changed(r, slides, audit_retention_ms, 'data_updated', by, '')
return { 'ok', r.id, record_pack(r), record_fields(r) }
