-- The record of a session is one string. src/store/session_record.ts reads the same layout.
--   0 format u8 = 1 | 1 kind u8 | 2 flags u16 | 4 owner length u16 | 6 device length u16 | 8 identity length u32 |
--   12 data length u32 | 16 version | 24 created | 32 accessed | 40 expires | 48 absolute | 56 idle   (f64, ms)
--   64 secret, only in a secure session: SHA-256 of the secret, then a count u8 of the secrets that were rotated away and
--      may still be in their grace, and for each its SHA-256 and the end of its grace (f64, ms)
--   then owner | device | identity | data
-- Times and the version are doubles because `struct` cuts 8-byte integers to 32 bits on some engines; a double is exact
-- to 2^53. A regeneration with a grace leaves a forward under the old id: a record whose device segment is the new id.
-- @include includes/time
-- @include includes/partition
local HEADER, HEADER_LENGTH, ACCESSED_OFFSET = '>BBHHHIIdddddd', 64, 32
local KIND_HASH, KIND_SECURE, KIND_FORWARD = 1, 2, 255

local function secrets_pack(r)
  if r.kind ~= KIND_SECURE then return '' end
  local parts = { r.secret, string.char(#r.retired) }
  for _, old in ipairs(r.retired) do parts[#parts + 1] = old.secret .. struct.pack('>d', old.grace_until) end
  return table.concat(parts)
end

local function record_pack(r)
  return struct.pack(HEADER, 1, r.kind, r.flags, #r.owner, #r.device, #r.identity, #r.data, r.version, r.created,
    r.accessed, r.expires, r.absolute, r.idle) .. secrets_pack(r) .. r.owner .. r.device .. r.identity .. r.data
end

-- Returns the record under exactly this id, of a live session or a forward, or nil. A session is alive until `expires`,
-- inclusive, as with the engine's own expiry.
local function record_read_exact(id)
  local raw = redis.call('GET', record_key(id))
  if not raw then return nil end
  local r = { id = id }
  local owner_length, device_length, identity_length, data_length
  r.format, r.kind, r.flags, owner_length, device_length, identity_length, data_length, r.version, r.created,
    r.accessed, r.expires, r.absolute, r.idle = struct.unpack(HEADER, raw)
  if r.expires < now then return nil end
  local position = HEADER_LENGTH
  local function segment(length)
    position = position + length
    return string.sub(raw, position - length + 1, position)
  end
  if r.kind == KIND_SECURE then
    r.secret, r.retired = segment(32), {}
    for i = 1, string.byte(segment(1)) do
      r.retired[i] = { secret = segment(32), grace_until = struct.unpack('>d', segment(8)) }
    end
  end
  r.owner, r.device = segment(owner_length), segment(device_length)
  r.identity, r.data = segment(identity_length), segment(data_length)
  return r
end

-- Returns the record of a live session or nil. An id that was regenerated leads to its successor during its grace.
local function record_read(id)
  local r = record_read_exact(id)
  if r and r.kind == KIND_FORWARD then return record_read(r.device) end
  return r
end

-- Returns the record if it is of the tenant whose owners begin with `prefix`: sessions of other tenants are not found.
local function of_tenant(r, prefix) return r and string.sub(r.owner, 1, #prefix) == prefix and r or nil end
local function record_read_of_tenant(id, prefix) return of_tenant(record_read(id), prefix) end

-- Writes a whole record; the caller sets its TTL by index_put.
local function record_write(r) redis.call('SET', record_key(r.id), record_pack(r)) end

-- Returns the fields of a hash session as a flat list of names and values; an empty list for other kinds.
local function record_fields(r)
  if r.kind ~= KIND_HASH then return {} end
  return redis.call('HGETALL', fields_key(r.id))
end
