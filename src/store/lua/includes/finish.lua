-- Ends a session before its timeouts do. The record is deleted first: a store without memory refuses writes until a
-- script has freed some.
-- @include includes/index
-- @include includes/change_log
local TOMBSTONE_TTL_MS = 7 * 86400000

-- The tombstone holds the reason for as long as the session could have lived, 7 d at most.
local function tombstone_put(id, owner, now, reason, actor, note, deadline)
  redis.call('HSET', tombstone_key(id), 'owner', owner, 'reason', reason, 'actor', actor, 'note', note, 'at', int(now))
  redis.call('PEXPIREAT', tombstone_key(id), int(math.min(deadline, now + TOMBSTONE_TTL_MS)))
end

-- Ends one of several sessions; the caller calls index_settle after the last.
local function finish_one(r, now, reason, actor, note)
  redis.call('DEL', record_key(r.id), fields_key(r.id))
  index_remove(r.id, r.owner, r.device)
  tombstone_put(r.id, r.owner, now, reason, actor, note, r.absolute)
  change_append(now, reason, r.id, r.owner, r.version, actor)
end

-- The caller writes the audit entry, because there is one for each mutation and not for each session.
local function finish(r, now, reason, actor, note)
  finish_one(r, now, reason, actor, note)
  index_settle(r.owner)
end
