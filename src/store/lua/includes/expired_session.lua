-- Records the end of a session that a timeout has ended. Its record is gone; it stays in the user's index until this
-- has run, so this runs once for each.
-- @include includes/finish
-- @include includes/audit

-- The caller calls index_settle after its last session.
local function expired_session_end(id, owner, device, now, retention_ms)
  index_remove(id, owner, device)
  tombstone_put(id, owner, now, 'expired', '', '', math.huge)
  change_append(now, 'expired', id, owner, 0, '')
  audit_append(owner, now, retention_ms, 'expired', id, device, '', '')
end
