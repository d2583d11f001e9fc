#!lua
-- Creates a session of any kind: record, fields, indexes, change, audit entry and request id, all or nothing.
-- KEYS  record, fields, tombstone, user index, audit, devices, request id, last revoke-all, create rate, live, log,
--       tail, meta
-- ARGV  1 session_id, 2 owner, 3 kind, 4 flags, 5 idle ms, 6 absolute ms, 7 device, 8 identity, 9 data,
--       10 SHA-256 of the secret (empty unless secure), 11 request id's TTL in ms (0: there is none),
--       12 audit retention ms, 13 actor, 14 most sessions of the user (0: any number), 15 'reject' or 'evict',
--       16 when the login began, ms (0: not said), 17 creates in a period (0: any number), 18 the period ms,
--       19… field names and values
-- Returns {'ok', session_id, record, fields} of the new session or of the one this request id made before;
--         {'request_id_reused'} it made one of another kind; {'request_id_spent'} the one it made is dead;
--         {'id_taken'} choose another session_id; {'revoked_since_login'}; {'rate_limited', ms to wait};
--         {'session_limit'}
-- @include includes/secret
-- @include includes/changed
-- @include includes/rate
-- @include includes/expired
-- @include includes/order
local now = now_ms()
local owner, kind, device, secret, actor = ARGV[2], tonumber(ARGV[3]), ARGV[7], ARGV[10], ARGV[13]
local REQUEST, REVOKED, RATE = KEYS[7], KEYS[8], KEYS[9]
local request_ttl, retention = tonumber(ARGV[11]), tonumber(ARGV[12])

if request_ttl > 0 then
  local made_kind, id = string.match(redis.call('GET', REQUEST) or '', '^(%d+) (.+)$')
  if made_kind and tonumber(made_kind) ~= kind then return { 'request_id_reused' } end
  if made_kind then
    local r = record_read(id, now)
    if not r then return { 'request_id_spent' } end
    if kind == KIND_SECURE then
      -- The caller says that it never saw the first token.
      secret_replace(r, secret, now, VOID)
      record_changed(r, now, retention, 'rotated', actor, 'create retried')
    end
    return { 'ok', r.id, record_pack(r), record_fields(r) }
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('EXISTS', KEYS[3]) == 1 then return { 'id_taken' } end

local login_began, revoked = tonumber(ARGV[16]), tonumber(redis.call('GET', REVOKED) or 0)
if login_began > 0 and login_began <= revoked then return { 'revoked_since_login' } end

local rate_count, rate_arrival = tonumber(ARGV[17]), nil
if rate_count > 0 then
  local wait
  wait, rate_arrival = rate_wait(RATE, now, rate_count, tonumber(ARGV[18]))
  if wait > 0 then return { 'rate_limited', wait } end
end

-- A login on a device replaces the session there, so that one does not count.
local on_device = device ~= '' and redis.call('HGET', KEYS[6], device)
local replaced = on_device and record_read_exact(on_device, now)

local function evict(old)
  finish_one(old, now, 'evicted', actor, '')
  audit_append(owner, now, retention, 'evicted', old.id, old.device, actor, '')
end

local max_sessions, excess = tonumber(ARGV[14]), 0
if max_sessions > 0 then
  excess = index_count(owner, now) - (replaced and 1 or 0) + 1 - max_sessions
  if excess > 0 and ARGV[15] == 'reject' then return { 'session_limit' } end
end
if replaced then evict(replaced) end
-- It was on the device that the sweep would look for.
if on_device and redis.call('ZSCORE', KEYS[4], on_device) then expired_tell(on_device, owner, device, now, retention) end
evict_oldest(owner, excess, now, evict)

local r = {
  id = ARGV[1], owner = owner, kind = kind, flags = tonumber(ARGV[4]), version = 1, created = now, accessed = now,
  idle = tonumber(ARGV[5]), absolute = now + tonumber(ARGV[6]), device = device, identity = ARGV[8], data = ARGV[9],
  secret = secret, retired = {},
}
r.expires = math.min(now + r.idle, r.absolute)
record_write(r)
local fields = {}
for i = 19, #ARGV do fields[#fields + 1] = ARGV[i] end
if #fields > 0 then redis.call('HSET', KEYS[2], unpack(fields)) end
index_put(r)
if request_ttl > 0 then redis.call('SET', REQUEST, kind .. ' ' .. r.id, 'PX', request_ttl) end
if rate_arrival then rate_charge(RATE, now, rate_arrival) end
change_append(now, 'created', r.id, owner, r.version, actor)
audit_append(owner, now, retention, 'created', r.id, device, actor, '')
return { 'ok', r.id, record_pack(r), fields }
