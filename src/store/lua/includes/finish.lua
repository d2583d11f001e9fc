-- The end of a session.
-- @include includes/index
-- @include includes/tenant_index
-- @include includes/change_log
-- @include includes/audit
local TOMBSTONE_TTL_MS = 7 * 86400000

-- The tombstone holds the reason for as long as the session could have lived, 7 d at most.
local function tombstone_put(r, reason, by, note, detail)
  local key = tombstone_key(r.id)
  redis.call('HSET', key, 'owner', r.owner, 'reason', reason, 'by', by, 'note', note, 'at', int(now))
  if detail then redis.call('HSET', key, 'detail', detail) end
  redis.call('PEXPIREAT', key, int(math.min(r.absolute, now + TOMBSTONE_TTL_MS)))
end

-- Ends one of several sessions that have one audit entry together; the caller calls index_settle after the last. The
-- record is deleted first: with full memory, the store refuses the writes of a script until it has deleted something. It is
-- deleted even if its time has passed: a store deletes an expired key only when it comes to it, and finds the key alive if
-- its clock has gone backwards until then.
local function finish_unaudited(r, reason, by, note, detail)
  redis.call('DEL', record_key(r.id), fields_key(r.id))
  index_remove(r)
  tenant_remove(r)
  tombstone_put(r, reason, by, note, detail)
  change_append(r, reason, by, detail)
end

-- Ends one of several sessions; the caller calls index_settle after the last.
local function finish_one(r, retention_ms, reason, by, note, detail)
  finish_unaudited(r, reason, by, note, detail)
  audit_append(r, retention_ms, reason, by, note, detail)
end

-- Ends a session. `detail` may be nil; includes/audit says what it is.
local function finish(r, retention_ms, reason, by, note, detail)
  finish_one(r, retention_ms, reason, by, note, detail)
  index_settle(r.owner)
end

-- Records the end of a session that a timeout has ended; the caller calls index_settle after the last. The session stays
-- in the user's index until this has run, so this runs once for each.
local function finish_expired(id, owner, device, retention_ms)
  local by_token, by_absolute = index_score_bits(redis.call('ZSCORE', user_key(owner), id))
  local r = {
    id = id, owner = owner, device = device, version = 0, absolute = math.huge, kind = by_token and KIND_TOKEN,
  }
  finish_one(r, retention_ms, by_absolute and 'absolute_timeout' or 'expired', '', '')
end

-- Returns the device of each of a user's sessions that has one: the only part of a record that the indexes do not hold by
-- session.
local function devices_of(owner)
  local devices, device_of = redis.call('HGETALL', devices_key(owner)), {}
  for i = 1, #devices, 2 do device_of[devices[i + 1]] = devices[i] end
  return device_of
end

-- Records the end of a user's sessions that are gone although their deadlines have not come, and returns how many there
-- were: the store has deleted them while its clock was ahead, and the sweep does not find them. The caller calls
-- index_settle.
local function finish_vanished(owner, retention_ms)
  local vanished, device_of = 0, devices_of(owner)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', user_key(owner), int(4 * now), '+inf')) do
    if redis.call('EXISTS', record_key(id)) == 0 then
      finish_expired(id, owner, device_of[id] or '', retention_ms)
      vanished = vanished + 1
    end
  end
  return vanished
end
