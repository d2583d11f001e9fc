#!lua flags=allow-oom
-- Ends sessions of one partition, each only if its record is still the one that the caller has compared with its filter.
-- Used by EndSessions
-- KEYS  LIVE, LOG, TAIL, META
-- ARGV  owner_prefix (of the tenant), revocation_reason (what the caller gave; may be empty), audit_retention_ms, by, note,
--       sessions… (session_id and SHA-1 of the record of each)
-- Returns {'ok', then for each session 1 if it has ended now, 0 if it had ended or was regenerated before, or the record
--         that it has instead}
local LIVE, LOG, TAIL, META = unpack(KEYS)
local owner_prefix, revocation_reason, audit_retention_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local by, note, sessions = ARGV[4], ARGV[5], { unpack(ARGV, 6) }
-- @include includes/record
-- @include includes/finish
local detail = revocation_reason ~= '' and revocation_reason or nil
local reply, owners = { 'ok' }, {}
for i = 1, #sessions, 2 do
  local r = of_tenant(record_read_exact(sessions[i]), owner_prefix)
  local raw = r and r.kind ~= KIND_FORWARD and record_pack(r)
  if not raw then
    reply[#reply + 1] = 0
  elseif redis.sha1hex(raw) == sessions[i + 1] then
    finish_one(r, audit_retention_ms, 'revoked', by, note, detail)
    owners[r.owner] = true
    reply[#reply + 1] = 1
  else
    reply[#reply + 1] = raw
  end
end
for owner in pairs(owners) do index_settle(owner) end
return reply
