-- The instant of this script by the store's clock, in whole milliseconds since 1970.
local seconds, microseconds = unpack(redis.call('TIME'))
local now = seconds * 1000 + math.floor(microseconds / 1000)
-- The same instant with its microseconds as a fraction.
local exact_now = seconds * 1000 + microseconds / 1000

-- Formats a number for a command: without an exponent or a fraction.
local function int(number) return string.format('%.0f', number) end
