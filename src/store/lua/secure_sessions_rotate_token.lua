#!lua
-- Replaces the secret of a secure session by compare-and-swap on its digest, so one of N concurrent callers wins.
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
-- @include includes/rotation
-- @include includes/secret_check
-- @include includes/ip_binding
-- @include includes/moving
-- @include includes/record_changed
local r = record_read_of_tenant(session_id, owner_prefix)
local repeated = rotation_is_repeated(r, new_secret, retry_ms)
if not repeated then
  local state, outcome = secret_check(r, presented_secret, audit_retention_ms, by)
  if not state then return { outcome } end
end
if is_moving(r) then return { 'moving' } end

local ip = ip_binding_apply(r, address_digest, compared_identity, address_differs, audit_retention_ms, by)
if ip == 'compare' then return { 'compare_address', r.id, record_pack(r) } end
if ip == 'ended' then return { 'ip_mismatch' } end
if repeated then return { 'ok', r.id, record_pack(r), record_fields(r) } end

local lost = rotation_apply(r, session_id, presented_secret, new_secret, retry_ms, grace_ms)
if lost then return lost end
record_changed(r, true, audit_retention_ms, 'rotated', by, '')
return { 'ok', r.id, record_pack(r), record_fields(r) }
