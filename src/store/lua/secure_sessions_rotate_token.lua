#!lua
-- Replaces the secret of a secure session by compare-and-swap on its digest, so one of N concurrent callers wins.
-- ROTATION holds the time of the session's last rotation, in ms, and the digest of the secret that was presented for it.
-- Used by RotateToken
-- KEYS  RECORD, FIELDS, TOMBSTONE, ROTATION, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), presented_secret (SHA-256), new_secret (SHA-256), retry_ms (how long
--       the call may be repeated, with the same new_secret; 0: new_secret is random), grace_ms (of the presented secret),
--       address_digest, compared_identity, address_differs (these three: see includes/ip_binding), audit_retention_ms,
--       by
-- Returns {'ok', session_id, record, fields}, {'not_found'}, {'moving'}, {'reused'}, {'ip_mismatch'} if the ip_binding has
--         ended the session, {'compare_address', session_id, record} if the caller must compare the address with this
--         session's first, or {'rotated_concurrently', ms to wait before the presented secret can rotate again; absent: it
--         cannot}
local RECORD, FIELDS, TOMBSTONE, ROTATION, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, presented_secret, new_secret = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local retry_ms, grace_ms, address_digest, compared_identity = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8]
local address_differs, audit_retention_ms, by = ARGV[9], tonumber(ARGV[10]), ARGV[11]
-- @include includes/secret
-- @include includes/ip_binding
-- @include includes/moving
-- @include includes/record_changed
-- A second rotation of one secret within this time, or within half of a shorter grace, is concurrent with the first. After
-- that, the caller has not received the first one's token.
local CONCURRENT_MS = 2000

local r = record_read_of_tenant(session_id, owner_prefix)
local rotated_ms, parent = string.match(redis.call('GET', ROTATION) or '', '^(%d+) (.+)$')
rotated_ms = tonumber(rotated_ms)
-- The new secret is derived from the presented one and the request id. If it is the current one, this call has been made
-- before, by a caller that held the presented secret then.
local repeated = r and r.secret == new_secret and rotated_ms and now <= rotated_ms + retry_ms
if not repeated then
  local state, outcome = secret_check(r, presented_secret, audit_retention_ms, by)
  if not state then return { outcome } end
end
if is_moving(r) then return { 'moving' } end

local ip = ip_binding_apply(r, address_digest, compared_identity, address_differs, audit_retention_ms, by)
if ip == 'compare' then return { 'compare_address', r.id, record_pack(r) } end
if ip == 'ended' then return { 'ip_mismatch' } end
if repeated then return { 'ok', r.id, record_pack(r), record_fields(r) } end

if presented_secret ~= r.secret then
  -- Only the secret that was replaced last may rotate again. A forwarded id is not the one that ROTATION is about. A secret
  -- that was replaced never becomes the current one again.
  local is_known = new_secret == r.secret or secret_is_retired(r, new_secret)
  if r.id ~= session_id or presented_secret ~= parent or is_known then
    return { 'rotated_concurrently' }
  end
  local wait_ms = rotated_ms + math.min(CONCURRENT_MS, grace_ms / 2) - now
  if wait_ms > 0 then return { 'rotated_concurrently', int(math.ceil(wait_ms)) } end
end
secret_replace(r, new_secret, grace_ms)
record_changed(r, true, audit_retention_ms, 'rotated', by, '')
local remembered_ms = math.max(retry_ms, grace_ms)
if remembered_ms > 0 then redis.call('SET', ROTATION, int(now) .. ' ' .. presented_secret, 'PX', int(remembered_ms)) end
return { 'ok', r.id, record_pack(r), record_fields(r) }
