#!lua
-- Reads entries of a user's audit trail, newest first.
-- KEYS  audit
-- ARGV  1 only entries before this one, `<ms>-<n>` (empty: all), 2 none older than this, ms, 3 how many at most
-- Returns {'ok', entries as includes/audit writes them}
local CHUNK = 100
local before_ms, before_n = string.match(ARGV[1], '^(%d+)%-(%d+)$')
local oldest, count = tonumber(ARGV[2]), tonumber(ARGV[3])
before_ms, before_n = tonumber(before_ms or math.huge), tonumber(before_n or 0)

local entries = {}
local chunk, last = nil, -1
repeat
  chunk = redis.call('LRANGE', KEYS[1], last - CHUNK + 1, last)
  last = last - CHUNK
  for i = #chunk, 1, -1 do
    local ms, n = string.match(chunk[i], '^(%d+)%-(%d+)')
    ms, n = tonumber(ms), tonumber(n)
    if #entries >= count or ms < oldest then return { 'ok', entries } end
    if ms < before_ms or (ms == before_ms and n < before_n) then entries[#entries + 1] = chunk[i] end
  end
until #chunk < CHUNK
return { 'ok', entries }
