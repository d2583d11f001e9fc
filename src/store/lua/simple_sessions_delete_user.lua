#!lua flags=allow-oom
-- Ends all sessions of a user, or all but one, and remembers when: a login that began before is refused from then on.
-- KEYS  user index, audit, devices, last revoke-all, live, log, tail, meta
-- ARGV  1 owner, 2 the session_id to keep (empty: none), 3 audit retention ms, 4 actor
-- Returns {'ok', how many ended}
-- @include includes/finish
-- @include includes/audit
-- As long as the longest session could live (400 d).
local REVOKED_TTL_MS = 400 * 86400000
local now = now_ms()
local kept = record_read(ARGV[2], now)
local ended = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local r = not (kept and id == kept.id) and record_read_exact(id, now)
  if r then
    finish_one(r, now, 'user_revoked', ARGV[4], '')
    ended = ended + 1
  end
end
index_settle(ARGV[1])
redis.call('SET', KEYS[4], int(now), 'PX', int(REVOKED_TTL_MS))
audit_append(ARGV[1], now, tonumber(ARGV[3]), 'user_revoked', '', '', ARGV[4], ended .. ' ended')
return { 'ok', ended }
