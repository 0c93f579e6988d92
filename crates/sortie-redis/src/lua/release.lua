-- ARGV: token, channel, key.
if redis.call('HGET', KEYS[1], 't') ~= ARGV[1] then return 0 end
unlease(ARGV[2], ARGV[3])
return 1
