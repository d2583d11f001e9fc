#!lua
-- Marks an anonymous session as moving to a user who logs in, and reads it. Until the mark is taken away or runs out,
-- nothing but its end changes the session.
-- Used by RegenerateSession
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), move_id (random), mark_ms (how long the mark lasts), presented_secret
--       (SHA-256; empty: only an id was presented), request_digest (of the request id; empty: none), retry_ms (how long a
--       call with a request id may be repeated), audit_retention_ms, by
-- Returns {'ok', session_id, record, fields}, {'not_found'}, {'moving'} if another login is moving it, {'owned'} if it
--         belongs to a user, or {'moved', session_id of the successor} if this request id has moved it before
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, move_id, mark_ms, presented_secret = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local request_digest, retry_ms, audit_retention_ms, by = ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
-- @include includes/secret
-- @include includes/finish
-- @include includes/moving
local r = of_tenant(record_read_exact(session_id), owner_prefix)
if not r then
  local owner, request, at, successor = unpack(redis.call('HMGET', TOMBSTONE, 'owner', 'request', 'at', 'successor'))
  local is_retry = request_digest ~= '' and request == request_digest and now <= tonumber(at) + retry_ms
  -- Within a user, regeneration_regenerate finds the successor itself.
  if is_retry and is_anonymous(owner) and of_tenant({ owner = owner }, owner_prefix) then return { 'moved', successor } end
  return { is_retry and 'owned' or 'not_found' }
end
if not is_anonymous(r.owner) then return { 'owned' } end
if r.kind == KIND_FORWARD or (r.kind == KIND_TOKEN) ~= (presented_secret ~= '') then return { 'not_found' } end
if r.kind == KIND_TOKEN then
  local state = secret_state(r, presented_secret)
  if state == 'stale' then finish(r, audit_retention_ms, 'token_reused', by, '') end
  if state ~= 'current' then return { 'not_found' } end
end
if not redis.call('SET', moving_key(r.id), move_id, 'NX', 'PX', mark_ms) then return { 'moving' } end
return { 'ok', r.id, record_pack(r), record_fields(r) }
