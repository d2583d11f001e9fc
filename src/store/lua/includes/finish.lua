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
