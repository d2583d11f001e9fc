-- Sliding the idle timeout.
-- @include includes/index

-- Moves the idle deadline in a record that is about to be written.
local function slide(r)
  r.accessed = math.max(now, r.accessed)
  r.expires = math.min(r.accessed + r.idle, r.absolute)
end

-- Returns the least time in ms between two slides of the session. src/service/validation/touch.ts has the same rule.
-- `configured` is SA_TOUCH_INTERVAL in ms, of which at most idle/10 counts, so that no session in steady use idles out;
-- -1 is the default: idle/100, at most 60 s.
local function touch_interval(r, configured)
  if configured < 0 then return math.min(r.idle / 100, 60000) end
  return math.min(r.idle / 10, configured)
end

-- Slides the session if its last slide is at least its touch interval ago.
local function touch(r, configured)
  if now - r.accessed < touch_interval(r, configured) then return end
  slide(r)
  redis.call('SETRANGE', record_key(r.id), ACCESSED_OFFSET, struct.pack('>dd', r.accessed, r.expires))
  index_put(r)
end
