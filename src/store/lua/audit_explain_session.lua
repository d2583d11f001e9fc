#!lua flags=no-writes
-- Reads whether a session is alive and, if it ended, why.
-- Used by ExplainSession
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant)
-- Returns {'alive', owner}, {'ended', owner, reason, by, note, at ms, detail} or {'unknown'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix = ARGV[1], ARGV[2]
-- @include includes/record
local r = of_tenant(record_read_exact(session_id), owner_prefix)
if r and r.kind ~= KIND_FORWARD then return { 'alive', r.owner } end
local end_of = redis.call('HMGET', TOMBSTONE, 'owner', 'reason', 'by', 'note', 'at', 'detail')
local owner, reason, by, note, at, detail = unpack(end_of)
if not of_tenant({ owner = owner or '' }, owner_prefix) then return { 'unknown' } end
return { 'ended', owner, reason, by, note, at, detail or '' }
