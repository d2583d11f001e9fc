#!lua flags=allow-oom
-- Begins the change log of a partition that has none, so that a store that lost everything differs from one that never had
-- a change. The next change continues the epoch that begins here.
-- Used by WatchInvalidations, WatchWithLease
-- KEYS  LIVE, LOG, TAIL, META
-- Returns {'ok', the end of the log as <epoch>-<seq>}
local LIVE, LOG, TAIL, META = unpack(KEYS)
-- @include includes/change_log
local tail = redis.call('GET', TAIL)
if not tail then
  local log = log_open()
  if log.epoch == 0 then log.epoch = now end
  tail = tail_put(log)
end
return { 'ok', tail }
