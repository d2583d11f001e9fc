#!lua
-- Gives a session a new id in one step: the old one dies, or forwards to the new one for a grace.
-- KEYS  old record, old fields, old tombstone, new record, new fields, new tombstone, live, log, tail, meta
-- ARGV  1 old session_id, 2 the tenant's owner prefix, 3 new session_id, 4 grace ms, 5 audit retention ms, 6 actor,
--       7 SHA-256 of the presented secret (empty: by id, which opens no secure session), 8 SHA-256 of the new secret
-- Returns {'ok', session_id, record, fields}, {'not_found'} or {'id_taken'}
-- @include includes/slide
-- @include includes/secret
local now = now_ms()
local grace, retention, actor = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
-- An id that was regenerated already is gone for this, even while it forwards: one of N callers wins.
local r = of_tenant(record_read_exact(ARGV[1], now), ARGV[2])
if not r or r.kind == KIND_FORWARD or (r.kind == KIND_SECURE) ~= (ARGV[7] ~= '') then return { 'not_found' } end
if r.kind == KIND_SECURE then
  local state = secret_state(r, ARGV[7], now)
  if state == 'stale' then secret_reused(r, now, retention, actor) end
  if state ~= 'current' then return { 'not_found' } end
end
if redis.call('EXISTS', KEYS[4]) == 1 or redis.call('EXISTS', KEYS[6]) == 1 then return { 'id_taken' } end

redis.call('DEL', KEYS[1])
index_remove(r.id, r.owner, r.device)
tombstone_put(r.id, r.owner, now, 'regenerated', actor, '', r.absolute)
change_append(now, 'regenerated', r.id, r.owner, r.version, actor)

r.id = ARGV[3]
r.version = r.version + 1
if r.kind == KIND_SECURE then secret_replace(r, ARGV[8], now, grace) end
slide(r, now)
record_write(r)
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[5]) end
index_put(r)
if grace > 0 then
  local ends = math.min(now + grace, r.expires)
  redis.call('SET', KEYS[1], record_pack({
    kind = KIND_FORWARD, flags = 0, owner = r.owner, device = r.id, identity = '', data = '', version = 0,
    created = now, accessed = now, expires = ends, absolute = ends, idle = 0,
  }))
  redis.call('PEXPIREAT', KEYS[1], int(ends))
end
audit_append(r.owner, now, retention, 'regenerated', r.id, r.device, actor, '')
return { 'ok', r.id, record_pack(r), record_fields(r) }
