-- ARGV: somebody's token. Whether that lease still holds.
local e = redis.call('HMGET', KEYS[1], 't', 'x')
if e[1] == ARGV[1] and now() < tonumber(e[2]) then return 1 end
return 0
