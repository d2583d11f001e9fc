-- The user's audit trail: three lists, the newest entry at the end of each, bounded by length and by a retention time after
-- the last entry. Entries of one kind do not displace those of another: logins and ends are in one list, changes in the
-- second, address mismatches in the third. A stream would take 4 KiB for its first entry, more than everything else of a
-- session together.
-- An entry is `<ms>-<n> <event> <opener> <session_id> <device> <by> <detail> <note>`. n distinguishes the entries of one
-- millisecond in all three lists. session_id, device, detail and note may be empty. device is percent-encoded, and by is
-- `<principal>/<actor>`, both percent-encoded, or empty for a timeout. detail is the revocation reason of `revoked`, the
-- former id of `regenerated`, and the number of ended sessions of `user_revoked`. An entry never contains a secret.
-- Nothing is written about sessions of no user: a visitor must not leave a key behind.
-- @include includes/moving
-- @include includes/opener
-- @include includes/time

local function audit_keys(owner) return { audit_key(owner), audit_changes_key(owner), audit_mismatches_key(owner) } end

-- Returns the key and the length of the list that keeps an event.
local function audit_list_of(owner, event)
  if event == 'data_updated' or event == 'rotated' or event == 'updated' then return audit_changes_key(owner), 200 end
  if event == 'ip_mismatch' then return audit_mismatches_key(owner), 200 end
  return audit_key(owner), 1000
end

-- Appends an entry about a session, of which it reads owner, id, device and what opens it.
local function audit_append(r, retention_ms, event, by, note, detail)
  if is_anonymous(r.owner) then return end
  local ms, n = now, 0
  for _, key in ipairs(audit_keys(r.owner)) do
    local last_ms, last_n = string.match(redis.call('LINDEX', key, -1) or '', '^(%d+)%-(%d+)')
    last_ms, last_n = tonumber(last_ms), tonumber(last_n)
    -- If the clock went backwards, the entry takes the time of the last one, so that the order stays.
    if last_ms and (last_ms > ms or (last_ms == ms and last_n >= n)) then ms, n = last_ms, last_n + 1 end
  end
  local id = int(ms) .. '-' .. int(n)
  local entry = table.concat({ id, event, opener(r), r.id, r.device, by, detail or '', note }, ' ')
  local key, length = audit_list_of(r.owner, event)
  if redis.call('RPUSH', key, entry) > length then redis.call('LTRIM', key, -length, -1) end
  redis.call('PEXPIREAT', key, int(now + retention_ms))
end
