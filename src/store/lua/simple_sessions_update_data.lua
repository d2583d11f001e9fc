#!lua
-- Replaces the data of a session and slides its idle timeout.
-- Used by UpdateSessionData
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), owner (whose session it must be; empty: any user's),
--       expected_version (0: any), data, slides ('1', or '0' if it is no access), audit_retention_ms, by
-- Returns {'ok', session_id, record, fields}, {'not_found'}, {'moving'} or {'version_mismatch'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, owner, expected_version, data = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local slides, audit_retention_ms, by = ARGV[6] == '1', tonumber(ARGV[7]), ARGV[8]
-- @include includes/moving
-- @include includes/record_changed
local r = record_read_of_owner(session_id, owner_prefix, owner)
if not r then return { 'not_found' } end
if is_moving(r) then return { 'moving' } end
if expected_version ~= 0 and expected_version ~= r.version then return { 'version_mismatch' } end
r.data = data
record_changed(r, slides, audit_retention_ms, 'data_updated', by, '')
return { 'ok', r.id, record_pack(r), record_fields(r) }
