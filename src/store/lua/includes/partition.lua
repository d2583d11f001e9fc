-- The keys of the partition a script works in. The last four KEYS of every script are the partition's own; keys that
-- are only found in a record or an index are built from the tag of KEYS[1], so they are in the same slot.
local BASE = string.match(KEYS[1], '^sa:{%w+}:')
local LIVE, LOG, TAIL, META = KEYS[#KEYS - 3], KEYS[#KEYS - 2], KEYS[#KEYS - 1], KEYS[#KEYS]

local function record_key(id) return BASE .. 's:' .. id end
local function fields_key(id) return BASE .. 'f:' .. id end
local function tombstone_key(id) return BASE .. 't:' .. id end
local function user_key(owner) return BASE .. 'u:' .. owner end
local function order_key(owner) return BASE .. 'o:' .. owner end
local function devices_key(owner) return BASE .. 'd:' .. owner end
local function audit_key(owner) return BASE .. 'a:' .. owner end
