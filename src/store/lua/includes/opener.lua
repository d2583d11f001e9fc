-- What opens a session: changes and audit entries name it, so that a caller which may not use the session does not receive
-- an id that opens it.
-- @include includes/record

-- Returns `t` for a session that its token opens, and `i` for one that its id opens.
local function opener(r) return r.kind == KIND_TOKEN and 't' or 'i' end
