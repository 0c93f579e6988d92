-- ARGV: channel, key, position or '', cooling in ms, how long a floor is kept in ms.
redis.call('HDEL', KEYS[1], 'v', 'p', 'b', 's', 'h', 'd', 'q', 'i', 'g')
unlease(ARGV[1], ARGV[2])
if ARGV[3] ~= '' then
  local floor = raised(redis.call('HGET', KEYS[1], 'f'), ARGV[3])
  redis.call('HSET', KEYS[1], 'f', floor, 'c', now() + ARGV[4])
  keep(tonumber(ARGV[5]))
end
redis.call('PUBLISH', ARGV[1], 'i' .. ARGV[2])
return 1
