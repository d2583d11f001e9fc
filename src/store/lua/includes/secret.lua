-- The secret of a secure session, compared by SHA-256 digest. Only the service mints tokens, so a secret that is neither
-- the current one nor within its grace was rotated away: its use means that a token was stolen.
-- @include includes/record
-- @include includes/finish

-- The count in the record is one byte. Above this, the oldest are dropped.
local MAX_RETIRED = 255
-- The grace of a secret whose response was lost: it is not valid, and its use is not treated as theft.
local VOID = -1

-- Returns 'current', 'grace', 'void' or 'stale'.
local function secret_state(r, secret)
  if secret == r.secret then return 'current' end
  for _, old in ipairs(r.retired) do
    if secret == old.secret and old.grace_until == VOID then return 'void' end
    if secret == old.secret and now <= old.grace_until then return 'grace' end
  end
  return 'stale'
end

-- Replaces the current secret, which stays valid for `grace` ms; earlier secrets keep their own grace.
local function secret_replace(r, secret, grace)
  r.retired[#r.retired + 1] = { secret = r.secret, grace_until = grace == VOID and VOID or now + grace }
  local kept = {}
  for _, old in ipairs(r.retired) do
    if old.grace_until == VOID or old.grace_until > now then kept[#kept + 1] = old end
  end
  while #kept > MAX_RETIRED do table.remove(kept, 1) end
  r.secret, r.retired = secret, kept
end

-- Returns the live secure session of a secret and the secret's state, 'current' or 'grace'; otherwise nil and the outcome,
-- 'not_found' or 'reused'. A reuse ends the session.
local function secret_present(id, prefix, secret, retention_ms, actor)
  local r = record_read_of_tenant(id, prefix)
  local state = r and r.kind == KIND_TOKEN and secret_state(r, secret) or 'void'
  if state == 'void' then return nil, 'not_found' end
  if state ~= 'stale' then return r, state end
  finish(r, retention_ms, 'token_reused', actor, '')
  return nil, 'reused'
end
