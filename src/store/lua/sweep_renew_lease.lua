#!lua
-- Renews the lease of the instance that sweeps, or gives it up.
-- Used by the sweep, whose changes WatchInvalidations, WatchWithLease send
-- KEYS  LEASE
-- ARGV  holder, lease_ms (0: the holder gives the lease up)
-- Returns {'ok', 1 if the holder had the lease, otherwise 0}
local LEASE = unpack(KEYS)
local holder, lease_ms = ARGV[1], ARGV[2]
if redis.call('GET', LEASE) ~= holder then return { 'ok', 0 } end
if lease_ms == '0' then
  redis.call('DEL', LEASE)
else
  redis.call('SET', LEASE, holder, 'PX', lease_ms)
end
return { 'ok', 1 }
