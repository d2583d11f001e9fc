#!lua
-- Reads a session and slides its idle timeout.
-- Used by GetSession, ValidateSession, ValidateToken, BatchValidate, ValidateStream
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), touch_interval_ms (-1: the session's default; -2: not at all),
--       credential ('token' if the caller has verified a secure session's token, else 'id', which secure ones do not accept)
-- Returns {'ok', session_id, record, fields} or {'not_found'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, touch_interval_ms, credential = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
-- @include includes/slide
local r = record_read_of_tenant(session_id, owner_prefix)
if not r or (r.kind == KIND_TOKEN) ~= (credential == 'token') then return { 'not_found' } end
touch(r, touch_interval_ms)
return { 'ok', r.id, record_pack(r), record_fields(r) }
