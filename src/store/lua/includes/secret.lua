-- The secret of a secure session, compared by SHA-256 digest. Only the service mints tokens, so a secret that is neither
-- the current one nor within its grace was rotated away.
-- @include includes/record

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

-- Returns true if the session is valid for a caller that presents this secret; an empty one stands for its id alone, which
-- does not open a secure session. Use it where a session is read only: a secret that was rotated away while the call went on
-- is no theft, so it ends nothing.
local function is_opened_by(r, secret)
  if r.kind ~= KIND_TOKEN then return secret == '' end
  local state = secret_state(r, secret)
  return state == 'current' or state == 'grace'
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
