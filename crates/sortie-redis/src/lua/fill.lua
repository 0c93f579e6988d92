-- ARGV: token, channel, key, value, position, fresh for, usable for, kept for, tags.
local e = redis.call('HMGET', KEYS[1], 't', 'lb', 'lq', 'li', 'f', 'c')
if e[1] ~= ARGV[1] then return 'revoked' end
local b, began = bucket(ARGV[1]), tonumber(e[2])
if not current(b, e[4], e[3], ARGV[9]) then
  unlease(ARGV[2], ARGV[3])
  return 'revoked'
end
local floors = redis.call('HMGET', KEYS[2], 'af', 'ac')
local no = refused(ARGV[5], e[5], e[6], began) or refused(ARGV[5], floors[1], floors[2], began)
for tag in string.gmatch(ARGV[9], '%d+') do
  local floor = redis.call('HMGET', KEYS[2], 'tf:' .. tag, 'tc:' .. tag)
  no = no or refused(ARGV[5], floor[1], floor[2], began)
end
if no then
  unlease(ARGV[2], ARGV[3])
  return no
end
local t = now()
redis.call('HSET', KEYS[1], 'v', ARGV[4], 'p', ARGV[5], 'b', began, 's', began + ARGV[6],
  'h', began + ARGV[7], 'd', math.max(t - began, 1), 'q', e[3], 'i', e[4], 'g', ARGV[9])
unlease(ARGV[2], ARGV[3])
keep(math.max(began + ARGV[8] - t, 1))
return 'stored'
