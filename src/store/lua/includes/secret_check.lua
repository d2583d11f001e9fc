-- A secret that a caller presents. The use of one that is neither the current one nor within its grace means that a token
-- was stolen, so it ends the session.
-- @include includes/secret
-- @include includes/finish

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
