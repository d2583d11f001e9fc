#!lua
-- Changes timeouts, identity, labels and flags of a session, by compare-and-swap on the version that the caller has read.
-- Used by UpdateSession
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), owner (whose session it must be; empty: any user's), read_version,
--       idle_ms (-1: as it is), absolute_ms (the new deadline; -1: as it is), absolute_max_ms (after the creation),
--       may_extend ('1' or '0': whether the deadline may become later), identity, labels, flags, audit_retention_ms, by,
--       note
-- Returns {'ok', session_id, record, fields}, {'not_found'}, {'moving'}, {'version_mismatch'}, {'extend_forbidden'} or
--         {'deadline_out_of_range'}
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, owner, read_version = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local idle_ms, absolute_ms, absolute_max_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local may_extend, identity, labels, flags = ARGV[8] == '1', ARGV[9], ARGV[10], tonumber(ARGV[11])
local audit_retention_ms, by, note = tonumber(ARGV[12]), ARGV[13], ARGV[14]
-- @include includes/moving
-- @include includes/record_changed
local r = record_read_of_owner(session_id, owner_prefix, owner)
if not r then return { 'not_found' } end
if is_moving(r) then return { 'moving' } end
if r.version ~= read_version then return { 'version_mismatch' } end
if absolute_ms >= 0 then
  if absolute_ms <= now or absolute_ms > r.created + absolute_max_ms then return { 'deadline_out_of_range' } end
  if absolute_ms > r.absolute and not may_extend then return { 'extend_forbidden' } end
  r.absolute = absolute_ms
end
if idle_ms >= 0 then r.idle = idle_ms end
r.identity, r.labels, r.flags = identity, labels, flags
r.expires = deadline(r)
record_changed(r, false, audit_retention_ms, 'updated', by, note)
return { 'ok', r.id, record_pack(r), record_fields(r) }
