#!lua flags=allow-oom
-- Ends all sessions of a user, or all but one, and remembers the time: a login that began before it is refused from now on.
-- Used by DeleteUserSessions
-- KEYS  USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, LIVE, LOG, TAIL, META
-- ARGV  owner, except_session_id (empty: none is kept), audit_retention_ms, by, note
-- Returns {'ok', how many ended}
local USER_INDEX, AUDIT_TRAIL, DEVICES, LAST_REVOKE_ALL, LIVE, LOG, TAIL, META = unpack(KEYS)
local owner, except_session_id = ARGV[1], ARGV[2]
local audit_retention_ms, by, note = tonumber(ARGV[3]), ARGV[4], ARGV[5]
-- @include includes/record
-- @include includes/finish
-- As long as the longest session can live (400 d).
local LAST_REVOKE_ALL_TTL_MS = 400 * 86400000
-- A store that ignores the flags of scripts refuses growing writes when its memory is full, until a script has deleted.
redis.call('DEL', LAST_REVOKE_ALL)
local kept = record_read(except_session_id)
local ended = 0
finish_vanished(owner, audit_retention_ms)
for _, id in ipairs(redis.call('ZRANGE', USER_INDEX, 0, -1)) do
  local r = not (kept and id == kept.id) and record_read_exact(id)
  if r then
    finish_unaudited(r, 'user_revoked', by, note)
    ended = ended + 1
  end
end
index_settle(owner)
redis.call('SET', LAST_REVOKE_ALL, int(now), 'PX', int(LAST_REVOKE_ALL_TTL_MS))
audit_append({ owner = owner, id = '', device = '' }, audit_retention_ms, 'user_revoked', by, note, int(ended))
return { 'ok', ended }
