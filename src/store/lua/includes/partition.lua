-- The keys of the partition in which a script works. Ids that a script finds in a record or an index become keys with the
-- tag of KEYS[1], so they are in the same slot. The last four KEYS of a script are LIVE, LOG, TAIL and META.
local BASE = string.match(KEYS[1], '^sa:{%w+}:')

-- A script touches keys that it does not declare, and a cluster may be moving their slot. Then each of two nodes has some of
-- the keys: a script would fail at the first key that the other node may have, with half of its writes made, or would take
-- a key that has not arrived for one that does not exist. A node refuses a command on two keys that do not exist unless it
-- has the whole slot. No key has these names, so during a move every script ends here, before its first write.
redis.call('EXISTS', BASE .. 'none:1', BASE .. 'none:2')

local function record_key(id) return BASE .. 's:' .. id end
local function fields_key(id) return BASE .. 'f:' .. id end
local function moving_key(id) return BASE .. 'mv:' .. id end
local function tombstone_key(id) return BASE .. 't:' .. id end
local function user_key(owner) return BASE .. 'u:' .. owner end
local function order_key(owner) return BASE .. 'o:' .. owner end
local function devices_key(owner) return BASE .. 'd:' .. owner end
local function audit_key(owner) return BASE .. 'a:' .. owner end
local function audit_changes_key(owner) return BASE .. 'ac:' .. owner end
local function audit_mismatches_key(owner) return BASE .. 'am:' .. owner end
local function count_key(tenant) return BASE .. 'c:' .. tenant end
local function unindexed_key(tenant) return BASE .. 'm:' .. tenant end
local function index_key(tenant) return BASE .. 'n:' .. tenant end
local function segment_key(tenant, number) return BASE .. 'n:' .. tenant .. ':' .. number end
local TENANTS_KEY = BASE .. 'tenants'
