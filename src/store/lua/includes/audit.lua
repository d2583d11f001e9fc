-- The user's audit trail, bounded by length and by the retention time after its last entry: a list, the newest at its end.
-- A stream would do the same, but takes 4 KiB for its first entry, more than everything else of a session together.
-- An entry is `<ms>-<n> <event> <session_id> <device> <actor> <note>`, where n tells entries of one ms apart; session_id,
-- device and note may be empty, device and actor are percent-encoded. Handles only, never a secret.
-- @include includes/partition
-- @include includes/time
local AUDIT_LENGTH = 1000

-- `retention` in ms.
local function audit_append(owner, now, retention, event, id, device, actor, note)
  local key, ms, n = audit_key(owner), now, 0
  local last_ms, last_n = string.match(redis.call('LINDEX', key, -1) or '', '^(%d+)%-(%d+)')
  -- Also when the clock went backwards: an entry never comes before an older one.
  if last_ms and tonumber(last_ms) >= now then ms, n = tonumber(last_ms), tonumber(last_n) + 1 end
  local entry = table.concat({ int(ms) .. '-' .. int(n), event, id, device, actor, note }, ' ')
  if redis.call('RPUSH', key, entry) > AUDIT_LENGTH then redis.call('LTRIM', key, -AUDIT_LENGTH, -1) end
  redis.call('PEXPIREAT', key, int(now + retention))
end
