-- The store's clock in whole milliseconds since 1970. A script reads it once, at its top.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Formats a number for a command: without an exponent or a fraction.
local function int(number)
  return string.format('%.0f', number)
end
