#!lua flags=allow-oom
-- Ends the move of an anonymous session: its old id ends because it has a successor, or the session goes on as before.
-- Used by RegenerateSession
-- KEYS  RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META
-- ARGV  session_id, owner_prefix (of the tenant), move_id (of regeneration_begin_move), successor (its session_id; empty:
--       the session goes on), request_digest (of the request id; empty: none), by
-- Returns {'ok'} or {'not_found'} if the session has ended meanwhile, or its mark has run out
local RECORD, FIELDS, TOMBSTONE, LIVE, LOG, TAIL, META = unpack(KEYS)
local session_id, owner_prefix, move_id = ARGV[1], ARGV[2], ARGV[3]
local successor, request_digest, by = ARGV[4], ARGV[5], ARGV[6]
-- @include includes/finish
-- @include includes/record
local marked = redis.call('GET', moving_key(session_id)) == move_id
if marked then redis.call('DEL', moving_key(session_id)) end
local r = of_tenant(record_read_exact(session_id), owner_prefix)
if not r or not marked then return { 'not_found' } end
if successor == '' then return { 'ok' } end
finish_unaudited(r, 'regenerated', by, '')
index_settle(r.owner)
if request_digest ~= '' then redis.call('HSET', TOMBSTONE, 'request', request_digest, 'successor', successor) end
return { 'ok' }
