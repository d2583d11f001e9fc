#!lua flags=allow-oom
-- Ends a session again whose end a new primary has lost. Does nothing if the session has ended, or was regenerated: the old
-- id then forwards to a session that goes on.
-- Used by the recovery after a failover, for DeleteSession, InvalidateSession, DeleteUserSessions, RevokeToken,
--         RevokeDevice, EndSessions and everything else that ends a session
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner, reason (of the end that was lost), detail (its revocation reason; may be empty),
--       audit_retention_ms, by
-- Returns {'ok'} or {'not_found'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner, reason, detail = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local audit_retention_ms, by = tonumber(ARGV[5]), ARGV[6]
-- @include includes/record
-- @include includes/finish
local r = record_read_exact(session_id)
if not r or r.kind == KIND_FORWARD or r.owner ~= owner then return { 'not_found' } end
finish(r, audit_retention_ms, reason, by, 'applied again: a failover had lost it', detail ~= '' and detail or nil)
return { 'ok' }
