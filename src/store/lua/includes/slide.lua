-- Sliding the idle timeout.
-- @include includes/index

-- Moves the idle deadline in a record that is about to be written.
local function slide(r)
  r.accessed = math.max(now, r.accessed)
  r.expires = math.min(r.accessed + r.idle, r.absolute)
end

-- Slides the session if its last slide is at least `interval` ms ago; -1 is the default: idle/100, at most 60 s.
local function touch(r, interval)
  if interval < 0 then interval = math.min(r.idle / 100, 60000) end
  if now - r.accessed < interval then return end
  slide(r)
  redis.call('SETRANGE', record_key(r.id), ACCESSED_OFFSET, struct.pack('>dd', r.accessed, r.expires))
  index_put(r)
end
