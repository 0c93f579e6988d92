-- ARGV: token, lease in ms.
if redis.call('HGET', KEYS[1], 't') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'x', now() + ARGV[2])
keep(tonumber(ARGV[2]))
return 1
