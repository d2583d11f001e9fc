-- A change of a live session, which is also an access: the next version, told to the watchers and to the audit trail.
-- @include includes/slide
-- @include includes/change
-- @include includes/audit

-- Writes the record with whatever the caller changed in it.
local function record_changed(r, now, retention, event, actor, note)
  r.version = r.version + 1
  slide(r, now)
  record_write(r)
  index_put(r)
  change_append(now, 'changed', r.id, r.owner, r.version, actor)
  audit_append(r.owner, now, retention, event, r.id, r.device, actor, note)
end
