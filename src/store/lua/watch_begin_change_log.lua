#!lua
-- Begins the change log of a partition that has none, so that a store which lost everything is told from one that never
-- had anything. The next change goes on in the epoch that this begins.
-- KEYS  live, log, tail, meta
-- Returns {'ok', the end of the log as <epoch>-<seq>}
-- @include includes/change
local tail = redis.call('GET', TAIL)
if not tail then
  local now = now_ms()
  local open = log_open(now)
  if open.epoch == 0 then open.epoch = now end
  tail = tail_put(open)
end
return { 'ok', tail }
