-- Anonymous sessions: those of no user. Each has an owner of its own, `<tenant>:@<name>`, which no user id can be, because
-- `@` is percent-encoded in one. A login moves such a session to its user, who may be in another partition, so
-- in several scripts: regeneration_begin_move marks the session, and until regeneration_end_move nothing but its end can
-- change it.
-- @include includes/partition

local function is_anonymous(owner) return string.find(owner, ':@', 1, true) ~= nil end

-- Returns true if a login is moving the session at this moment: its changes have to wait.
local function is_moving(r) return is_anonymous(r.owner) and redis.call('EXISTS', moving_key(r.id)) == 1 end
