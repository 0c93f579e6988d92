-- ARGV: channel, key. Too old to be used, and still the last one.
if redis.call('HEXISTS', KEYS[1], 'v') == 1 then redis.call('HSET', KEYS[1], 's', 0, 'h', 0) end
unlease(ARGV[1], ARGV[2])
redis.call('PUBLISH', ARGV[1], 'i' .. ARGV[2])
return 1
