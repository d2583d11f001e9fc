-- A change of a live session: it makes the next version, and appends a change and an audit entry.
-- @include includes/slide
-- @include includes/change_log
-- @include includes/audit

-- Writes the record with the changes that the caller made in it. `slides` is false if the change is no access.
local function record_changed(r, slides, retention_ms, event, by, note)
  r.version = r.version + 1
  if slides then slide(r) end
  record_write(r)
  index_put(r)
  change_append(r, 'changed', by)
  audit_append(r, retention_ms, event, by, note)
end
