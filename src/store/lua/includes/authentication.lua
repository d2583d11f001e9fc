-- When a user proved who they are.
-- @include includes/time
-- A caller's clock may be ahead of the store's by so much; what it calls the future is then taken as now.
local CLOCK_SLACK_MS = 1000

-- Returns the instant to store for one that a caller gave: -1 stands for now. Returns nil if it is in the future.
local function authenticated_at(given_ms)
  if given_ms < 0 then return now end
  if given_ms > now + CLOCK_SLACK_MS then return nil end
  return math.min(given_ms, now)
end
