-- Sliding the idle timeout.
-- @include includes/record
-- @include includes/index
-- The touch interval of a call that is no access.
local NO_TOUCH = -2
local EVICTABLE_INTERVAL_MS = 1000

local function is_evictable(r) return math.floor(r.flags / 32) % 2 == 1 end

-- Moves the idle deadline in a record that is about to be written.
local function slide(r)
  r.accessed = math.max(now, r.accessed)
  r.expires = deadline(r)
end

-- Returns the least time in ms between two slides of the session. src/service/validation/touch.ts has the same rule.
-- `configured` is SA_TOUCH_INTERVAL in ms, of which at most idle/10 counts, so that no session in steady use idles out;
-- -1 is the default: idle/100, at most 60 s. A session that a limit may evict slides every second of its use, because the
-- order of eviction is that of the last slides.
local function touch_interval(r, configured)
  local interval = configured < 0 and math.min(r.idle / 100, 60000) or math.min(r.idle / 10, configured)
  return is_evictable(r) and math.min(interval, EVICTABLE_INTERVAL_MS) or interval
end

-- Slides the session if its last slide is at least its touch interval ago. Does nothing if `configured` is NO_TOUCH.
local function touch(r, configured)
  if configured == NO_TOUCH or now - r.accessed < touch_interval(r, configured) then return end
  slide(r)
  -- In this order, because a store that ignores the flags of scripts refuses SETRANGE when its memory is full, unless the
  -- script has written before. A deadline that has come deletes the record.
  index_put(r)
  if r.expires > now then
    redis.call('SETRANGE', record_key(r.id), ACCESSED_OFFSET, struct.pack('>d', r.accessed))
  end
end
