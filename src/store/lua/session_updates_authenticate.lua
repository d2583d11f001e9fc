#!lua
-- Records how and when the user of a session proved who they are, and can replace the session's secret in the same step.
-- ROTATION is that of secure_sessions_rotate_token.
-- Used by RecordAuthentication
-- KEYS  RECORD, FIELDS, TOMBSTONE, ROTATION, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), owner (whose session it must be; empty: any user's), presented_secret
--       (SHA-256; empty if only an id was presented), new_secret (SHA-256; empty: the secret stays), grace_ms (of the
--       presented secret), authentication, authenticated_ms (-1: now), audit_retention_ms, by
-- Returns {'ok', session_id, record, fields}, {'not_found'}, {'moving'}, {'reused'}, {'rotated_concurrently'} or
--         {'authenticated_in_future'}
local RECORD, FIELDS, TOMBSTONE, ROTATION, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, owner, presented_secret = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local new_secret, grace_ms, authentication, authenticated_ms = ARGV[5], tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local audit_retention_ms, by = tonumber(ARGV[9]), ARGV[10]
-- @include includes/secret
-- @include includes/moving
-- @include includes/record_changed
-- @include includes/authentication
local r = record_read_of_owner(session_id, owner_prefix, owner)
if not r then return { 'not_found' } end
if is_moving(r) then return { 'moving' } end
if presented_secret ~= '' then
  local state, outcome = secret_check(r, presented_secret, audit_retention_ms, by)
  if not state then return { outcome } end
  if state ~= 'current' and new_secret ~= '' then return { 'rotated_concurrently' } end
end
local authenticated = authenticated_at(authenticated_ms)
if not authenticated then return { 'authenticated_in_future' } end
r.authenticated, r.authentication = authenticated, authentication
if new_secret ~= '' then
  secret_replace(r, new_secret, grace_ms)
  if grace_ms > 0 then redis.call('SET', ROTATION, int(now) .. ' ' .. presented_secret, 'PX', int(grace_ms)) end
end
record_changed(r, true, audit_retention_ms, 'authenticated', by, '')
return { 'ok', r.id, record_pack(r), record_fields(r) }
