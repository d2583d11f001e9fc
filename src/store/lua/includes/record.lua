-- The record of a session is one string. src/store/session_record.ts reads the same layout.
--   0 format u8 = 2 | 1 kind u8: what opens the session | 2 flags u16 |
--   4 owner length u16 | 6 device length u16 | 8 identity length u16 | 10 labels length u16 | 12 data length u32 |
--   16 version | 24 created | 32 accessed | 40 absolute | 48 idle | 56 authenticated, 0 if unknown   (f64, ms)
--   64 secret, only if a token opens the session: SHA-256 of the secret, then a count u8 of the secrets that were rotated
--      away and may still be in their grace, and for each its SHA-256 and the end of its grace (f64, ms)
--   then owner | device | identity | data | labels | authentication, which is the rest
-- The deadline is not stored, because it follows from accessed, idle and absolute. Times and the version are doubles because
-- `struct` cuts 8-byte integers to 32 bits on some engines; a double is exact to 2^53. The bits of
-- the flags: 0 and 1 the ip_binding, 2 to 4 the device's type, 5 set if a limit may evict the session.
-- A regeneration with a grace leaves a forward under the old id: a record whose device segment is the new id.
-- @include includes/time
-- @include includes/partition
local HEADER, HEADER_LENGTH, ACCESSED_OFFSET = '>BBHHHHHIdddddd', 64, 32
-- 0 is a session that its id opens.
local KIND_TOKEN, KIND_FORWARD = 2, 255

local function secrets_pack(r)
  if r.kind ~= KIND_TOKEN then return '' end
  local parts = { r.secret, string.char(#r.retired) }
  for _, old in ipairs(r.retired) do parts[#parts + 1] = old.secret .. struct.pack('>d', old.grace_until) end
  return table.concat(parts)
end

local function record_pack(r)
  return struct.pack(HEADER, 2, r.kind, r.flags, #r.owner, #r.device, #r.identity, #r.labels, #r.data, r.version, r.created,
    r.accessed, r.absolute, r.idle, r.authenticated) .. secrets_pack(r) .. r.owner .. r.device .. r.identity .. r.data ..
    r.labels .. r.authentication
end

-- The instant at which the session ends unless it is accessed before.
local function deadline(r) return math.min(r.accessed + r.idle, r.absolute) end

-- Returns the record under exactly this id, of a live session or a forward, or nil. A session is alive until `expires`,
-- inclusive, as with the engine's own expiry.
local function record_read_exact(id)
  local raw = redis.call('GET', record_key(id))
  if not raw then return nil end
  local r = { id = id }
  local owner_length, device_length, identity_length, labels_length, data_length
  r.format, r.kind, r.flags, owner_length, device_length, identity_length, labels_length, data_length, r.version,
    r.created, r.accessed, r.absolute, r.idle, r.authenticated = struct.unpack(HEADER, raw)
  r.expires = deadline(r)
  if r.expires < now then return nil end
  local position = HEADER_LENGTH
  local function segment(length)
    position = position + length
    return string.sub(raw, position - length + 1, position)
  end
  if r.kind == KIND_TOKEN then
    r.secret, r.retired = segment(32), {}
    for i = 1, string.byte(segment(1)) do
      r.retired[i] = { secret = segment(32), grace_until = struct.unpack('>d', segment(8)) }
    end
  end
  r.owner, r.device, r.identity = segment(owner_length), segment(device_length), segment(identity_length)
  r.data, r.labels = segment(data_length), segment(labels_length)
  r.authentication = string.sub(raw, position + 1)
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

-- Returns the same if the record is also of this owner; an empty owner stands for any user of the tenant.
local function record_read_of_owner(id, prefix, owner)
  local r = record_read_of_tenant(id, prefix)
  return r and (owner == '' or owner == r.owner) and r or nil
end

-- Returns the type of the session's device as the contract numbers it; 0 without a device.
local function device_type(r) return math.floor(r.flags / 4) % 8 end

-- Writes a whole record; the caller sets its TTL by index_put.
local function record_write(r) redis.call('SET', record_key(r.id), record_pack(r)) end

-- Returns the session's fields as a flat list of names and values.
local function record_fields(r) return redis.call('HGETALL', fields_key(r.id)) end
