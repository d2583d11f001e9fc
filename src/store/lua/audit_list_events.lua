#!lua
-- Reads entries of a user's audit trail, newest first.
-- Used by ListAuditEvents
-- KEYS  AUDIT_TRAIL
-- ARGV  before_id (`<ms>-<n>`, only older entries; empty: all), oldest_ms (none older than this), count (the most entries)
-- Returns {'ok', entries as includes/audit writes them}
local AUDIT_TRAIL = unpack(KEYS)
local before_id, oldest_ms, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local CHUNK = 100
local before_ms, before_n = string.match(before_id, '^(%d+)%-(%d+)$')
before_ms, before_n = tonumber(before_ms or math.huge), tonumber(before_n or 0)

local entries, last = {}, -1
repeat
  local chunk = redis.call('LRANGE', AUDIT_TRAIL, last - CHUNK + 1, last)
  last = last - CHUNK
  for i = #chunk, 1, -1 do
    local ms, n = string.match(chunk[i], '^(%d+)%-(%d+)')
    ms, n = tonumber(ms), tonumber(n)
    if #entries >= count or ms < oldest_ms then return { 'ok', entries } end
    if ms < before_ms or (ms == before_ms and n < before_n) then entries[#entries + 1] = chunk[i] end
  end
until #chunk < CHUNK
return { 'ok', entries }
