#!lua flags=allow-oom
-- Ends one session.
-- Used by DeleteSession, InvalidateSession, RegenerateSession
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), owner (whose session it must be; empty: any user's), reason (also the
--       audit event), revocation_reason (what the caller gave; may be empty), audit_retention_ms, by, note
-- Returns {'ok'} or {'not_found'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, owner, reason, revocation_reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local audit_retention_ms, by, note = tonumber(ARGV[6]), ARGV[7], ARGV[8]
-- @include includes/record
-- @include includes/finish
local r = record_read_of_owner(session_id, owner_prefix, owner)
if not r then return { 'not_found' } end
finish(r, audit_retention_ms, reason, by, note, revocation_reason ~= '' and revocation_reason or nil)
return { 'ok' }
