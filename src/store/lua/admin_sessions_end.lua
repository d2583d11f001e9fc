#!lua flags=allow-oom
-- Ends sessions of one partition that still meet the filter: evaluates again the conditions that a change of the session can
-- affect. A session that was regenerated since the caller read it ends under its present id.
-- Used by EndSessions
-- KEYS  LIVE, LOG, TAIL, META
-- ARGV  revocation_reason (what the caller gave; may be empty), audit_retention_ms, by, note, accessed_from_ms,
--       accessed_until_ms (exclusive), wanted_device_type (0: any), label_count, rest… (so many entries of labels, then
--       session_id, owner and time of creation of each session, as the caller has read them)
-- Returns {'ok', how many have ended}
local LIVE, LOG, TAIL, META = unpack(KEYS)
local revocation_reason, audit_retention_ms, by, note = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local accessed_from_ms, accessed_until_ms = tonumber(ARGV[5]), tonumber(ARGV[6])
local wanted_device_type, label_count, rest = tonumber(ARGV[7]), tonumber(ARGV[8]), { unpack(ARGV, 9) }
-- @include includes/record
-- @include includes/labels
-- @include includes/finish
-- Returns the record of a live session of an owner, or nil. A regeneration keeps the owner and the time of creation.
local function present_record(id, owner, created)
  local r = record_read_exact(id)
  if r and r.kind ~= KIND_FORWARD then return r end
  for _, other in ipairs(redis.call('ZRANGE', user_key(owner), 0, -1)) do
    r = record_read_exact(other)
    if r and r.created == created then return r end
  end
  return nil
end

local function matches(r)
  for i = 1, label_count do
    if not has_label(r.labels, rest[i]) then return false end
  end
  local is_accessed = r.accessed >= accessed_from_ms and r.accessed < accessed_until_ms
  return is_accessed and (wanted_device_type == 0 or device_type(r) == wanted_device_type)
end

local ended, owners = 0, {}
for i = label_count + 1, #rest, 3 do
  local owner = rest[i + 1]
  local r = present_record(rest[i], owner, tonumber(rest[i + 2]))
  if r and r.owner == owner and matches(r) then
    finish_one(r, audit_retention_ms, 'revoked', by, note, revocation_reason ~= '' and revocation_reason or nil)
    ended, owners[owner] = ended + 1, true
  end
end
for owner in pairs(owners) do index_settle(owner) end
return { 'ok', ended }
