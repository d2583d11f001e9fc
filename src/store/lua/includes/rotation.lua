-- The last rotation of a session's secret. ROTATION holds its time, in ms, and the digest of the secret that was presented
-- for it.
-- @include includes/secret
-- A second rotation of one secret within this time, or within half of a shorter grace, is concurrent with the first. After
-- that, the caller has not received the first one's token.
local CONCURRENT_MS = 2000
local rotated_ms, parent = string.match(redis.call('GET', ROTATION) or '', '^(%d+) (.+)$')
rotated_ms = tonumber(rotated_ms)

-- Returns true if this call has been made before, by a caller that held the presented secret then: `new_secret` is derived
-- from the presented one and the request id, and it is the current one. `retry_ms` is how long a call may be repeated.
local function rotation_is_repeated(r, new_secret, retry_ms)
  return r and r.secret == new_secret and rotated_ms and now <= rotated_ms + retry_ms
end

-- Replaces the secret by compare-and-swap, in `r` only: the caller writes the record. Returns nil, or the outcome if
-- another caller has replaced the presented secret. `session_id` is the id that was presented.
local function rotation_apply(r, session_id, presented_secret, new_secret, retry_ms, grace_ms)
  if presented_secret ~= r.secret then
    -- Only the secret that was replaced last may rotate again. A forwarded id is not the one that ROTATION is about. A
    -- secret that was replaced never becomes the current one again.
    local is_known = new_secret == r.secret or secret_is_retired(r, new_secret)
    if r.id ~= session_id or presented_secret ~= parent or is_known then return { 'rotated_concurrently' } end
    local wait_ms = rotated_ms + math.min(CONCURRENT_MS, grace_ms / 2) - now
    if wait_ms > 0 then return { 'rotated_concurrently', int(math.ceil(wait_ms)) } end
  end
  secret_replace(r, new_secret, grace_ms)
  local remembered_ms = math.max(retry_ms, grace_ms)
  if remembered_ms > 0 then redis.call('SET', ROTATION, int(now) .. ' ' .. presented_secret, 'PX', int(remembered_ms)) end
end
