-- Time is the store's: read once, at the top of a script, in whole milliseconds since 1970.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A number as an argument of a command: without an exponent or a fraction.
local function int(number)
  return string.format('%.0f', number)
end
