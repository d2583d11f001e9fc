#!lua
-- Gives a session a new id in one step. The old id ends, or forwards to the new one during a grace. With a request id, the
-- tombstone of the old id keeps the new id, so that a repeated call finds it.
-- Used by RegenerateSession
-- KEYS  OLD_RECORD, OLD_FIELDS, OLD_TOMBSTONE, NEW_RECORD, NEW_FIELDS, NEW_TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  old_session_id, owner_prefix (of the tenant), new_session_id, grace_ms, audit_retention_ms, by,
--       presented_secret (SHA-256; empty: only an id was presented, which a secure session does not accept),
--       new_secret (SHA-256), request_digest (of the request id; empty: none), retry_ms (how long a call with a request
--       id may be repeated), address_digest, compared_identity, address_differs (these three: see includes/ip_binding),
--       owner (whose session it must be; empty: any user's)
-- Returns {'ok', session_id, record, fields}, {'not_found'}, {'moving'}, {'id_taken'}, {'ip_mismatch'} if the ip_binding has
--         ended the session, or {'compare_address', session_id, record} if the caller must compare the address with this
--         session's first
local OLD_RECORD, OLD_FIELDS, OLD_TOMBSTONE, NEW_RECORD, NEW_FIELDS, NEW_TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local old_session_id, owner_prefix, new_session_id, grace_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local audit_retention_ms, by, presented_secret, new_secret = tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
local request_digest, retry_ms, address_digest, compared_identity = ARGV[9], tonumber(ARGV[10]), ARGV[11], ARGV[12]
local address_differs, owner = ARGV[13], ARGV[14]
-- @include includes/slide
-- @include includes/secret
-- @include includes/ip_binding
-- @include includes/moving

-- Returns the live session that a regeneration with this request id made of the old one, or nil.
local function successor_of_request()
  local request, at, successor = unpack(redis.call('HMGET', OLD_TOMBSTONE, 'request', 'at', 'successor'))
  if request_digest == '' or request ~= request_digest or now > tonumber(at) + retry_ms then return nil end
  local successor_record = record_read_exact(successor)
  return successor_record and successor_record.kind ~= KIND_FORWARD and successor_record or nil
end

-- Without its request id, an id that was regenerated before is not found, even while it forwards: one of N concurrent
-- callers wins.
local old = record_read_exact(old_session_id)
local repeated = not old or old.kind == KIND_FORWARD
local r = old
if repeated then r = successor_of_request() end
r = of_tenant(r, owner_prefix)
if not r or (r.kind == KIND_TOKEN) ~= (presented_secret ~= '') then return { 'not_found' } end
if owner ~= '' and r.owner ~= owner then return { 'not_found' } end
if is_moving(r) then return { 'moving' } end
if repeated and r.kind == KIND_TOKEN and r.secret ~= new_secret then return { 'not_found' } end
if not repeated and r.kind == KIND_TOKEN then
  local state = secret_state(r, presented_secret)
  if state == 'stale' then finish(r, audit_retention_ms, 'token_reused', by, '') end
  if state ~= 'current' then return { 'not_found' } end
end
local ip = ip_binding_apply(r, address_digest, compared_identity, address_differs, audit_retention_ms, by)
if ip == 'compare' then return { 'compare_address', r.id, record_pack(r) } end
if ip == 'ended' then return { 'ip_mismatch' } end
if repeated then return { 'ok', r.id, record_pack(r), record_fields(r) } end
if redis.call('EXISTS', NEW_RECORD) == 1 or redis.call('EXISTS', NEW_TOMBSTONE) == 1 then return { 'id_taken' } end

redis.call('DEL', OLD_RECORD)
index_remove(r)
tombstone_put(r, 'regenerated', by, '')
if request_digest ~= '' then
  redis.call('HSET', OLD_TOMBSTONE, 'request', request_digest, 'successor', new_session_id)
end
change_append(r, 'regenerated', by)

r.id = new_session_id
r.version = r.version + 1
if r.kind == KIND_TOKEN then secret_replace(r, new_secret, grace_ms) end
slide(r)
record_write(r)
if redis.call('EXISTS', OLD_FIELDS) == 1 then redis.call('RENAME', OLD_FIELDS, NEW_FIELDS) end
index_put(r)
tenant_replace(r, old_session_id)
if grace_ms > 0 then
  local ends = math.min(now + grace_ms, r.expires)
  redis.call('SET', OLD_RECORD, record_pack({
    kind = KIND_FORWARD, flags = 0, owner = r.owner, device = r.id, identity = '', data = '', labels = '',
    authentication = '', version = 0, created = now, accessed = now, absolute = ends, idle = ends - now, authenticated = 0,
  }))
  redis.call('PEXPIREAT', OLD_RECORD, int(ends))
end
audit_append(r, audit_retention_ms, 'regenerated', by, '', old_session_id)
return { 'ok', r.id, record_pack(r), record_fields(r) }
