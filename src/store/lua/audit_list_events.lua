#!lua flags=no-writes
-- Reads entries of a user's audit trail, newest first: its lists merged by the ids of their entries.
-- Used by ListAuditEvents
-- KEYS  AUDIT_TRAIL, AUDIT_CHANGES, AUDIT_MISMATCHES
-- ARGV  before_id (`<ms>-<n>`, only older entries; empty: all), oldest_ms (none older than this), count (the most entries)
-- Returns {'ok', entries as includes/audit writes them}
local AUDIT_TRAIL, AUDIT_CHANGES, AUDIT_MISMATCHES = unpack(KEYS)
local before_id, oldest_ms, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local CHUNK = 100
local before_ms, before_n = string.match(before_id, '^(%d+)%-(%d+)$')
local before = { ms = tonumber(before_ms or math.huge), n = tonumber(before_n or 0) }

local function is_older(a, b) return a.ms < b.ms or (a.ms == b.ms and a.n < b.n) end

-- Returns a function that returns the next older entry of a list each time, and nil after the last.
local function newest_first(key)
  local chunk, unread, last = {}, 0, -1
  return function()
    if unread == 0 then
      chunk = redis.call('LRANGE', key, last - CHUNK + 1, last)
      last, unread = last - CHUNK, #chunk
    end
    local text = chunk[unread]
    unread = unread - 1
    if not text then return nil end
    local ms, n = string.match(text, '^(%d+)%-(%d+)')
    return { ms = tonumber(ms), n = tonumber(n), text = text }
  end
end

local entries, lists = {}, {}
for i, key in ipairs({ AUDIT_TRAIL, AUDIT_CHANGES, AUDIT_MISMATCHES }) do
  local next_entry = newest_first(key)
  local first = next_entry()
  while first and not is_older(first, before) do first = next_entry() end
  lists[i] = { first = first, next_entry = next_entry }
end
while #entries < count do
  local newest
  for _, list in ipairs(lists) do
    if list.first and not (newest and is_older(list.first, newest.first)) then newest = list end
  end
  if not newest or newest.first.ms < oldest_ms then break end
  entries[#entries + 1] = newest.first.text
  newest.first = newest.next_entry()
end
return { 'ok', entries }
