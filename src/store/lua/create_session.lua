#!lua
-- Creates a session: record, fields, indexes, change, audit entry and request id, all or nothing.
-- Used by CreateSession, CreateHashSession, CreateSecureSession, CreateDeviceSession, RegenerateSession
-- KEYS  RECORD, FIELDS, TOMBSTONE, USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, REQUEST, CREATE_RATE,
--       LIVE, LOG, TAIL, META
-- ARGV  session_id, owner, method (of the call, for the request id), kind, flags, idle_ms, absolute_ms, device, identity,
--       data, labels, authentication, authenticated_ms (-1: now, 0: not known), secret (SHA-256 of it; empty unless a token
--       opens the session), request_ttl_ms (0: no request id), audit_retention_ms, by, note, max_sessions (0: no limit),
--       limit_group ('user', 'device_type' or an entry of labels: which of the user's sessions count), on_exceed ('reject'
--       or 'evict'), rate_count (the most creates in a period; 0: no limit), rate_period_ms,
--       tenant_index ('true': the tenant's index gets the session), moved_version (of a session that a login moves to its
--       user; 0: a new session), moved_created_ms, moved_absolute_ms (its deadline), fields… (names and values)
-- Returns {'ok', session_id, record, fields} for the new session or for the one that this request id created before,
--         {'moving'}, {'request_id_reused'} if another method created that one, {'request_id_spent'} if it has ended,
--         {'id_taken'} if the caller must choose another session_id, {'authenticated_in_future'}, {'revoked_since_login'},
--         {'rate_limited', ms to wait} or {'session_limit'}
local RECORD, FIELDS, TOMBSTONE, USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, REQUEST, CREATE_RATE,
  LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner, method, kind, flags = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local idle_ms, absolute_ms, device, identity, data = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local labels, authentication, authenticated_ms, secret = ARGV[11], ARGV[12], tonumber(ARGV[13]), ARGV[14]
local request_ttl_ms, audit_retention_ms, by, note = tonumber(ARGV[15]), tonumber(ARGV[16]), ARGV[17], ARGV[18]
local max_sessions, limit_group, on_exceed = tonumber(ARGV[19]), ARGV[20], ARGV[21]
local rate_count, rate_period_ms = tonumber(ARGV[22]), tonumber(ARGV[23])
local tenant_index, moved_version, moved_created_ms = ARGV[24], tonumber(ARGV[25]), tonumber(ARGV[26])
local moved_absolute_ms, fields = tonumber(ARGV[27]), { unpack(ARGV, 28) }
-- @include includes/secret
-- @include includes/record_changed
-- @include includes/order
-- @include includes/labels
-- @include includes/moving
-- @include includes/authentication
if request_ttl_ms > 0 then
  local first_method, first_id = string.match(redis.call('GET', REQUEST) or '', '^(%S+) (.+)$')
  if first_method and first_method ~= method then return { 'request_id_reused' } end
  if first_method then
    local r = record_read(first_id)
    if not r then return { 'request_id_spent' } end
    if is_moving(r) then return { 'moving' } end
    if r.kind == KIND_TOKEN then
      -- A caller that retries has not received the first token, so nobody may go on with it or with what it rotated to.
      secret_reissue(r, secret)
      record_changed(r, true, audit_retention_ms, 'rotated', by, 'create retried')
    end
    return { 'ok', r.id, record_pack(r), record_fields(r) }
  end
end
if redis.call('EXISTS', RECORD) == 1 or redis.call('EXISTS', TOMBSTONE) == 1 then return { 'id_taken' } end

local authenticated = authenticated_at(authenticated_ms)
if not authenticated then return { 'authenticated_in_future' } end
local last_revoke_all_ms = tonumber(redis.call('GET', LAST_REVOKE_ALL) or 0)
if authenticated_ms > 0 and authenticated_ms <= last_revoke_all_ms then return { 'revoked_since_login' } end

local rate_arrival
if rate_count > 0 then
  -- GCRA: one key holds one instant. A fixed window would let twice as many pass around its edge.
  local arrival, interval_ms = math.max(tonumber(redis.call('GET', CREATE_RATE) or 0), now), rate_period_ms / rate_count
  -- It is later than that only if the store's clock has gone backwards.
  if arrival > now + rate_period_ms then arrival = now end
  local wait_ms = math.ceil(arrival - now - rate_period_ms + interval_ms)
  if wait_ms > 0 then return { 'rate_limited', wait_ms } end
  rate_arrival = arrival + interval_ms
end

local r = {
  id = session_id, owner = owner, kind = kind, flags = flags, version = moved_version + 1, created = exact_now,
  accessed = now, idle = idle_ms, absolute = now + absolute_ms, authenticated = authenticated, device = device,
  identity = identity, data = data, labels = labels, authentication = authentication, secret = secret, retired = {},
}
if moved_version > 0 then r.created, r.absolute = moved_created_ms, moved_absolute_ms end
r.expires = deadline(r)

-- A login on a device replaces the session there, so the replaced session does not count against the limit.
local on_device = device ~= '' and redis.call('HGET', DEVICES, device)
local replaced = on_device and record_read_exact(on_device)
local group, excess
if max_sessions > 0 and limit_group ~= 'user' then
  group = group_oldest_first(owner, function(other)
    if other.id == on_device then return false end
    if limit_group == 'device_type' then return device_type(other) == device_type(r) end
    return has_label(other.labels, limit_group)
  end)
  excess = #group + 1 - max_sessions
elseif max_sessions > 0 then
  local count = index_count(owner)
  excess = count - (replaced and 1 or 0) + 1 - max_sessions
  if excess > 0 and (on_exceed == 'reject' or count <= CROWDED) then
    excess = excess - finish_vanished(owner, audit_retention_ms)
    index_settle(owner)
  end
end
if excess and excess > 0 and on_exceed == 'reject' then return { 'session_limit' } end

if replaced then finish_one(replaced, audit_retention_ms, 'device_replaced', by, '') end
-- The new session takes the place of an expired one in the device index: record that one's end while its device is known.
if on_device and redis.call('ZSCORE', USER_INDEX, on_device) then
  finish_expired(on_device, owner, device, audit_retention_ms)
end
if group then
  for i = 1, excess do finish_one(group[i], audit_retention_ms, 'evicted', by, '') end
elseif excess then
  evict_oldest(owner, excess, audit_retention_ms, by)
end

record_write(r)
if #fields > 0 then redis.call('HSET', FIELDS, unpack(fields)) end
index_put(r)
tenant_add(r, tenant_index == 'true')
if request_ttl_ms > 0 then redis.call('SET', REQUEST, method .. ' ' .. r.id, 'PX', request_ttl_ms) end
if rate_arrival then
  redis.call('SET', CREATE_RATE, int(math.ceil(rate_arrival)), 'PX', int(math.max(1, math.ceil(rate_arrival - now))))
end
change_append(r, 'created', by)
audit_append(r, audit_retention_ms, 'created', by, note)
return { 'ok', r.id, record_pack(r), fields }
