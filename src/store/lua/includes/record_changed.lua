-- A change of a live session: it counts as an access, makes the next version, and appends a change and an audit entry.
-- @include includes/slide
-- @include includes/change_log
-- @include includes/audit

-- Writes the record with the changes that the caller made in it.
local function record_changed(r, now, retention_ms, event, actor, note)
  r.version = r.version + 1
  slide(r, now)
  record_write(r)
  index_put(r)
  change_append(now, 'changed', r.id, r.owner, r.version, actor)
  audit_append(r.owner, now, retention_ms, event, r.id, r.device, actor, note)
end
