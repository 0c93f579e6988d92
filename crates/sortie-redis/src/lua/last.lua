-- ARGV: a life. The value, however old, unless it was outdated: {value, position, age}.
local e = redis.call('HMGET', KEYS[1], 'v', 'p', 'b', 'q', 'i', 'g')
if e[1] and current(bucket(ARGV[1]), e[5], e[4], e[6]) then return { e[1], e[2], now() - e[3] } end
return { false, false, 0 }
