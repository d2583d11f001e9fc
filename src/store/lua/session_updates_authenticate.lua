#!lua
-- Records how and when the user of a session proved who they are, and can replace the session's secret in the same step.
-- ROTATION, retry_ms and the wait are those of secure_sessions_rotate_token.
-- Used by RecordAuthentication
-- KEYS  RECORD, FIELDS, TOMBSTONE, ROTATION, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), owner (whose session it must be; empty: any user's), presented_secret
--       (SHA-256; empty if only an id was presented), new_secret (SHA-256; empty: the secret stays), retry_ms, grace_ms
--       (of the presented secret), authentication, authenticated_ms (-1: now), audit_retention_ms, by
-- Returns {'ok', session_id, record, fields}, {'not_found'}, {'moving'}, {'reused'}, {'authenticated_in_future'} or
--         {'rotated_concurrently', ms to wait before the presented secret can rotate; absent: it cannot}
local RECORD, FIELDS, TOMBSTONE, ROTATION, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, owner, presented_secret = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local new_secret, retry_ms, grace_ms, authentication = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
local authenticated_ms, audit_retention_ms, by = tonumber(ARGV[9]), tonumber(ARGV[10]), ARGV[11]
-- @include includes/rotation
-- @include includes/secret_check
-- @include includes/moving
-- @include includes/record_changed
-- @include includes/authentication
local r = record_read_of_owner(session_id, owner_prefix, owner)
if not r then return { 'not_found' } end
if is_moving(r) then return { 'moving' } end
if rotation_is_repeated(r, new_secret, retry_ms) then return { 'ok', r.id, record_pack(r), record_fields(r) } end
if presented_secret ~= '' then
  local state, outcome = secret_check(r, presented_secret, audit_retention_ms, by)
  if not state then return { outcome } end
end
local authenticated = authenticated_at(authenticated_ms)
if not authenticated then return { 'authenticated_in_future' } end
if new_secret ~= '' then
  local lost = rotation_apply(r, session_id, presented_secret, new_secret, retry_ms, grace_ms)
  if lost then return lost end
end
r.authenticated, r.authentication = authenticated, authentication
record_changed(r, true, audit_retention_ms, 'authenticated', by, '')
return { 'ok', r.id, record_pack(r), record_fields(r) }
