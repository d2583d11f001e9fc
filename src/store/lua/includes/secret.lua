-- The secret of a secure session, compared by SHA-256 digest. Only the service mints tokens, so a secret that is neither
-- the current one nor within its grace was rotated away: its use means that a token was stolen.
-- @include includes/record
-- @include includes/finish

-- The count in the record is one byte. Above this, the oldest are dropped.
local MAX_RETIRED = 255
-- The grace of a secret whose response was lost: it is not valid, and its use is not treated as theft.
local VOID = -1
-- For this long after its creation, a session remembers all its secrets, since a retried create may yet void them: the
-- REQUEST_ID_TTL_MS of src/store/dependencies.ts.
local REMEMBER_ALL_MS = 600000

-- Returns 'current', 'grace', 'void' or 'stale'.
local function secret_state(r, secret)
  if secret == r.secret then return 'current' end
  for _, old in ipairs(r.retired) do
    if secret == old.secret and old.grace_until == VOID then return 'void' end
    if secret == old.secret and now < old.grace_until then return 'grace' end
  end
  return 'stale'
end

-- Returns true if the secret was replaced, and the record still has it.
local function secret_is_retired(r, secret)
  for _, old in ipairs(r.retired) do
    if secret == old.secret then return true end
  end
  return false
end

-- Replaces the current secret, which stays valid for `grace` ms; earlier secrets keep their own grace.
local function secret_replace(r, secret, grace)
  r.retired[#r.retired + 1] = { secret = r.secret, grace_until = now + grace }
  local kept, remembers_all = {}, now < r.created + REMEMBER_ALL_MS
  for _, old in ipairs(r.retired) do
    if remembers_all or old.grace_until == VOID or old.grace_until > now then kept[#kept + 1] = old end
  end
  while #kept > MAX_RETIRED do table.remove(kept, 1) end
  r.secret, r.retired = secret, kept
end

-- Replaces the current secret, and voids it and all before it.
local function secret_reissue(r, secret)
  secret_replace(r, secret, 0)
  for _, old in ipairs(r.retired) do old.grace_until = VOID end
end

-- Returns the state of a secret that is presented for a session, 'current' or 'grace'; otherwise nil and the outcome,
-- 'not_found' or 'reused'. A reuse ends the session. `r` is nil if there is no session.
local function secret_check(r, secret, retention_ms, by)
  local state = r and r.kind == KIND_TOKEN and secret_state(r, secret) or 'void'
  if state == 'void' then return nil, 'not_found' end
  if state ~= 'stale' then return state end
  finish(r, retention_ms, 'token_reused', by, '')
  return nil, 'reused'
end

-- Returns the live secure session of a secret that is valid; otherwise nil and the outcome, as secret_check.
local function secret_present(id, prefix, secret, retention_ms, by)
  local r = record_read_of_tenant(id, prefix)
  local state, outcome = secret_check(r, secret, retention_ms, by)
  return state and r, outcome
end
