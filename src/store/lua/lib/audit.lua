-- The user's audit trail: a stream bounded by length and by the retention time after its last entry.
-- @include lib/partition
-- @include lib/time
local AUDIT_LENGTH = 1000

-- `retention` in ms; `id`, `device` and `note` may be empty; `device` and `actor` are percent-encoded. Handles only,
-- never a secret.
local function audit_append(owner, now, retention, event, id, device, actor, note)
  redis.call('XADD', audit_key(owner), 'MAXLEN', '~', AUDIT_LENGTH, '*', 'event', event, 'session_id', id, 'device',
    device, 'actor', actor, 'note', note)
  redis.call('PEXPIREAT', audit_key(owner), int(now + retention))
end
