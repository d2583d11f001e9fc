-- The partition's change log, which watchers receive. Ids are `<epoch>-<seq>`: seq is contiguous within an epoch. A new
-- epoch begins whenever the store's replication id has changed (a failover, a restart), so no id is used for two changes,
-- even if the store lost the end of the log. The first change of an epoch names the last change of the epoch before, so that
-- a reader that has seen exactly this change knows that it missed none. The script declares LOG, TAIL and META.
-- @include includes/opener
-- @include includes/time
local LOG_LENGTH, CHANGES_CHANNEL = 4096, 'sa:changes'
-- The tail outlives the longest session (400 d); if it is gone, the log's last entry has the same id.
local TAIL_TTL_MS = 410 * 86400000

local log_end

local function log_open()
  local tail = redis.call('GET', TAIL)
  if not tail then
    local last = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
    tail = last and last[1] or '0-0'
  end
  local epoch, seq = string.match(tail, '^(%d+)%-(%d+)$')
  epoch, seq = tonumber(epoch), tonumber(seq)
  local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)') or ''
  if redis.call('HGET', META, 'replid') ~= replid then
    -- A log that never had a change, or lost all of them, has none to name.
    local previous = epoch > 0 and tail or nil
    -- The clock makes the epoch new even if the store has lost everything.
    epoch, seq = math.max(now, epoch + 1), 0
    redis.call('HSET', META, 'replid', replid)
    return { epoch = epoch, seq = seq, previous = previous }
  end
  return { epoch = epoch, seq = seq }
end

-- Writes the id of the log's last change and returns it as text.
local function tail_put(log)
  local tail = int(log.epoch) .. '-' .. int(log.seq)
  redis.call('SET', TAIL, tail, 'PX', int(TAIL_TTL_MS))
  return tail
end

-- Appends one change of a session and publishes the same bytes:
-- `<epoch>-<seq> <reason> <session_id> <owner> <version> <at ms> <by> <opener> <detail> <previous>`. owner is
-- percent-encoded; by and detail are as in an audit entry, but detail is empty unless the reason is `revoked`. previous is
-- only there in the first change of an epoch.
local function change_append(r, reason, by, detail)
  log_end = log_end or log_open()
  log_end.seq = log_end.seq + 1
  local position = tail_put(log_end)
  local words = { position, reason, r.id, r.owner, int(r.version), int(now), by, opener(r), detail or '', log_end.previous }
  log_end.previous = nil
  local change = table.concat(words, ' ')
  redis.call('XADD', LOG, 'MAXLEN', '~', LOG_LENGTH, position, 'c', change)
  redis.call('PUBLISH', CHANGES_CHANNEL, change)
end
