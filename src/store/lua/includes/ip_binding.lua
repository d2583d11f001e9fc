-- IP binding: what happens to a session that is presented from another address than its login's.
-- @include includes/record
-- @include includes/finish
local IP_BINDING_OFF, IP_BINDING_WARN, IP_BINDING_INVALIDATE = 0, 1, 2
local NOTED_TTL_MS = 3600000

-- Appends to the audit trail that a session was presented from another address: once an hour for each `address`, a digest.
local function ip_mismatch_note(r, address, retention_ms, by)
  if redis.call('SET', BASE .. 'i:' .. r.id .. ':' .. address, '1', 'NX', 'PX', NOTED_TTL_MS) then
    audit_append(r, retention_ms, 'ip_mismatch', by, '')
  end
end

local function ip_binding_end(r, retention_ms, by) finish(r, retention_ms, 'revoked', by, 'ip_mismatch') end

-- Returns true if the session has this binding, and `compared` is the identity segment with the address of its login: else
-- the service has compared with what has changed since.
local function is_bound_as_compared(r, binding, compared) return r.flags % 4 == binding and r.identity == compared end

-- Applies the ip_binding of a session that its holder presents from `address`, a digest; empty if it is not known. The
-- service compares addresses, because scripts do not know their spellings: `differs` is '1' if the address is not that of
-- the login in the identity segment `compared`. Returns 'match', 'mismatch', 'ended', or 'compare' if the service has
-- compared with another identity, or with none.
local function ip_binding_apply(r, address, compared, differs, retention_ms, by)
  local binding = r.flags % 4
  if address == '' or binding == IP_BINDING_OFF then return 'match' end
  if compared ~= r.identity then return 'compare' end
  if differs ~= '1' then return 'match' end
  if binding == IP_BINDING_INVALIDATE then
    ip_binding_end(r, retention_ms, by)
    return 'ended'
  end
  ip_mismatch_note(r, address, retention_ms, by)
  return 'mismatch'
end
