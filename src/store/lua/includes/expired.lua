-- Telling of a session that a timeout has ended, once: it is in the user's index until then. Its record is gone.
-- @include includes/finish
-- @include includes/audit

-- The caller settles the user's index.
local function expired_tell(id, owner, device, now, retention)
  index_remove(id, owner, device)
  tombstone_put(id, owner, now, 'expired', '', '', math.huge)
  change_append(now, 'expired', id, owner, 0, '')
  audit_append(owner, now, retention, 'expired', id, device, '', '')
end
