-- The secret of a secure session, compared by SHA-256 digest. Only the service mints tokens, so a secret that is neither
-- the current one nor the one before within its grace has been rotated away: its use is a theft, or follows one.
-- @include lib/finish
-- @include lib/audit

-- 'current', 'grace' or 'stale'.
local function secret_state(r, secret, now)
  if secret == r.secret then return 'current' end
  if secret == r.previous_secret and now <= r.grace_until then return 'grace' end
  return 'stale'
end

local function secret_replace(r, secret, grace_until)
  r.previous_secret, r.grace_until, r.secret = r.secret, grace_until, secret
end

local function secret_reused(r, now, retention, actor)
  finish(r, now, 'token_reused', actor, '')
  audit_append(r.owner, now, retention, 'token_reused', r.id, '', actor, '')
end
