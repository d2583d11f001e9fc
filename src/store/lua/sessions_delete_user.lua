#!lua flags=allow-oom
-- Ends all sessions of a user, or all but one.
-- KEYS  user index, audit, live, log, tail, meta
-- ARGV  1 owner, 2 the session_id to keep (empty: none), 3 audit retention ms, 4 actor
-- Returns {'ok', how many ended}
-- @include lib/finish
-- @include lib/audit
local now = now_ms()
local ended = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  local r = id ~= ARGV[2] and record_read(id, now)
  if r then
    finish(r, now, 'user_revoked', ARGV[4])
    ended = ended + 1
  end
end
if ended > 0 then
  audit_append(ARGV[1], now, tonumber(ARGV[3]), 'user_revoked', '', ARGV[4], ended .. ' ended')
end
return { 'ok', ended }
