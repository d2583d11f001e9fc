-- The labels of a session, as its record holds them: entries of the map session.v1.Session.labels, each of a tag byte, a
-- length byte and so many bytes. No entry is longer than 127 bytes.

-- Returns true if one of the labels is exactly this entry.
local function has_label(labels, entry)
  local at = 1
  while at <= #labels do
    local next_at = at + 2 + string.byte(labels, at + 1)
    if string.sub(labels, at, next_at - 1) == entry then return true end
    at = next_at
  end
  return false
end
