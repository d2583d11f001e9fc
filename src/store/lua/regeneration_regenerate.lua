#!lua
-- Gives a session a new id in one step. The old id ends, or forwards to the new one during a grace.
-- Used by RegenerateSession
-- KEYS  OLD_RECORD, OLD_FIELDS, OLD_TOMBSTONE, NEW_RECORD, NEW_FIELDS, NEW_TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  old_session_id, owner_prefix (of the tenant), new_session_id, grace_ms, audit_retention_ms, actor,
--       presented_secret (SHA-256; empty: only an id was presented, which a secure session does not accept),
--       new_secret (SHA-256)
-- Returns {'ok', session_id, record, fields}, {'not_found'} or {'id_taken'}
local OLD_RECORD, OLD_FIELDS, OLD_TOMBSTONE, NEW_RECORD, NEW_FIELDS, NEW_TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local old_session_id, owner_prefix, new_session_id, grace_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local audit_retention_ms, actor, presented_secret, new_secret = tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
-- @include includes/slide
-- @include includes/secret
-- An id that was regenerated before is not found, even while it forwards: one of N concurrent callers wins.
local r = of_tenant(record_read_exact(old_session_id), owner_prefix)
if not r or r.kind == KIND_FORWARD or (r.kind == KIND_TOKEN) ~= (presented_secret ~= '') then return { 'not_found' } end
if r.kind == KIND_TOKEN then
  local state = secret_state(r, presented_secret)
  if state == 'stale' then finish(r, audit_retention_ms, 'token_reused', actor, '') end
  if state ~= 'current' then return { 'not_found' } end
end
if redis.call('EXISTS', NEW_RECORD) == 1 or redis.call('EXISTS', NEW_TOMBSTONE) == 1 then return { 'id_taken' } end

redis.call('DEL', OLD_RECORD)
index_remove(r)
tombstone_put(r, 'regenerated', actor, '')
change_append(r, 'regenerated', actor)

r.id = new_session_id
r.version = r.version + 1
if r.kind == KIND_TOKEN then secret_replace(r, new_secret, grace_ms) end
slide(r)
record_write(r)
if redis.call('EXISTS', OLD_FIELDS) == 1 then redis.call('RENAME', OLD_FIELDS, NEW_FIELDS) end
index_put(r)
if grace_ms > 0 then
  local ends = math.min(now + grace_ms, r.expires)
  redis.call('SET', OLD_RECORD, record_pack({
    kind = KIND_FORWARD, flags = 0, owner = r.owner, device = r.id, identity = '', data = '', labels = '',
    authentication = '', version = 0, created = now, accessed = now, absolute = ends, idle = ends - now, authenticated = 0,
  }))
  redis.call('PEXPIREAT', OLD_RECORD, int(ends))
end
audit_append(r, audit_retention_ms, 'regenerated', actor, '')
return { 'ok', r.id, record_pack(r), record_fields(r) }
