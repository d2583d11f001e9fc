-- The user's audit trail: a list, the newest entry at its end, bounded by length and by a retention time after the last
-- entry. A stream would take 4 KiB for its first entry, more than everything else of a session together.
-- An entry is `<ms>-<n> <event> <session_id> <device> <actor> <note>`; n distinguishes the entries of one millisecond.
-- session_id, device and note may be empty; device and actor are percent-encoded. It never contains a secret.
-- @include includes/partition
-- @include includes/time
local AUDIT_LENGTH = 1000

-- Appends an entry about a session, of which it reads owner, id and device.
local function audit_append(r, retention_ms, event, actor, note)
  local key, ms, n = audit_key(r.owner), now, 0
  local last_ms, last_n = string.match(redis.call('LINDEX', key, -1) or '', '^(%d+)%-(%d+)')
  -- If the clock went backwards, the entry takes the time of the last one, so that the order stays.
  if last_ms and tonumber(last_ms) >= now then ms, n = tonumber(last_ms), tonumber(last_n) + 1 end
  local entry = table.concat({ int(ms) .. '-' .. int(n), event, r.id, r.device, actor, note }, ' ')
  if redis.call('RPUSH', key, entry) > AUDIT_LENGTH then redis.call('LTRIM', key, -AUDIT_LENGTH, -1) end
  redis.call('PEXPIREAT', key, int(now + retention_ms))
end
