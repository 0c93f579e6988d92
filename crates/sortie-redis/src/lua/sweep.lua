-- KEYS[1] is a bucket. ARGV: a life, channel, bucket's number, position or '', cooling in ms,
-- tags or '' for everything.
local function move(count, at, floor, cool)
  redis.call('HSET', KEYS[1], at, count)
  if ARGV[4] ~= '' then
    local above = raised(redis.call('HGET', KEYS[1], floor), ARGV[4])
    redis.call('HSET', KEYS[1], floor, above, cool, now() + ARGV[5])
  end
end
bucket(ARGV[1])
local count = redis.call('HINCRBY', KEYS[1], 'q', 1)
if ARGV[6] == '' then move(count, 'a', 'af', 'ac') end
for tag in string.gmatch(ARGV[6], '%d+') do move(count, 't:' .. tag, 'tf:' .. tag, 'tc:' .. tag) end
redis.call('PUBLISH', ARGV[2], 'b' .. ARGV[3])
return 1
