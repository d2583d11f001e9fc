-- The end of a session.
-- @include includes/index
-- @include includes/change_log
-- @include includes/audit
local TOMBSTONE_TTL_MS = 7 * 86400000

-- The tombstone holds the reason for as long as the session could have lived, 7 d at most.
local function tombstone_put(r, reason, actor, note)
  local key = tombstone_key(r.id)
  redis.call('HSET', key, 'owner', r.owner, 'reason', reason, 'actor', actor, 'note', note, 'at', int(now))
  redis.call('PEXPIREAT', key, int(math.min(r.absolute, now + TOMBSTONE_TTL_MS)))
end

-- Ends one of several sessions that have one audit entry together; the caller calls index_settle after the last. The
-- record is deleted first: with full memory, the store refuses the writes of a script until it has deleted something.
local function finish_unaudited(r, reason, actor, note)
  redis.call('DEL', record_key(r.id), fields_key(r.id))
  index_remove(r)
  tombstone_put(r, reason, actor, note)
  change_append(r, reason, actor)
end

-- Ends one of several sessions; the caller calls index_settle after the last.
local function finish_one(r, retention_ms, reason, actor, note)
  finish_unaudited(r, reason, actor, note)
  audit_append(r, retention_ms, reason, actor, note)
end

local function finish(r, retention_ms, reason, actor, note)
  finish_one(r, retention_ms, reason, actor, note)
  index_settle(r.owner)
end

-- Records the end of a session that a timeout has ended; the caller calls index_settle after the last. The session stays
-- in the user's index until this has run, so this runs once for each.
local function finish_expired(id, owner, device, retention_ms)
  local r = { id = id, owner = owner, device = device, version = 0, absolute = math.huge }
  finish_one(r, retention_ms, 'expired', '', '')
end
