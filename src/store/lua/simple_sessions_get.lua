#!lua flags=allow-oom
-- Reads a session and slides its idle timeout.
-- Used by GetSession, RegenerateSession, ValidateSession, ValidateToken, BatchValidate, ValidateStream
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), touch_interval_ms (-1: the session's default; -2: not at all),
--       presented_secret (SHA-256; empty: only an id was presented, which a secure session does not accept)
-- Returns {'ok', session_id, record, fields} or {'not_found'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, touch_interval_ms, presented_secret = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
-- @include includes/slide
-- @include includes/secret
local r = record_read_of_tenant(session_id, owner_prefix)
if not r or not is_opened_by(r, presented_secret) then return { 'not_found' } end
touch(r, touch_interval_ms)
return { 'ok', r.id, record_pack(r), record_fields(r) }
