#!lua
-- Swaps the data of a session and slides its idle timeout.
-- KEYS  record, fields, tombstone, live, log, tail, meta
-- ARGV  1 session_id, 2 the tenant's owner prefix, 3 expected version (0: any), 4 data, 5 audit retention ms, 6 actor
-- Returns {'ok', session_id, record, fields}, {'not_found'} or {'version_mismatch'}
-- @include includes/changed
local now = now_ms()
local r = record_read_of_tenant(ARGV[1], now, ARGV[2])
if not r then return { 'not_found' } end
local expected_version = tonumber(ARGV[3])
if expected_version ~= 0 and expected_version ~= r.version then return { 'version_mismatch' } end
r.data = ARGV[4]
record_changed(r, now, tonumber(ARGV[5]), 'data_updated', ARGV[6], '')
return { 'ok', r.id, record_pack(r), record_fields(r) }
