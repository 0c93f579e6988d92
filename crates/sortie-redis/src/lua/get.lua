-- ARGV: token, lease in ms, how many load times ahead of its end a value is refreshed.
-- Returns {what, value, position, age, fresh for, usable for, other's token}; the age of what is
-- pending is 1 if a sweep came after its lease. A sweep takes no lease away: most keys lack its tag.
local t = now()
local b = bucket(ARGV[1])
local e = redis.call('HMGET', KEYS[1],
  'v', 'p', 'b', 's', 'h', 'd', 'q', 'i', 'g', 't', 'x', 'lq', 'li')
local usable = e[1] and t < tonumber(e[5]) and current(b, e[8], e[7], e[9])
local function found(what)
  return { what, e[1], e[2], t - e[3], e[4] - t, e[5] - t, false }
end
local due = usable and t >= tonumber(e[4])
if usable and t + e[6] * ARGV[3] < tonumber(e[4]) then return found('hit') end
if e[10] and e[10] ~= ARGV[1] and t < tonumber(e[11]) then
  if usable then return found(due and 'stale' or 'hit') end
  redis.call('HSET', KEYS[1], 'w', 1)
  local swept = e[13] ~= b.life or tonumber(e[12]) < b.count
  return { 'pending', false, false, swept and 1 or 0, 0, e[11] - t, e[10] }
end
redis.call('HSET', KEYS[1],
  't', ARGV[1], 'x', t + ARGV[2], 'lb', t, 'lq', b.count, 'li', b.life)
keep(tonumber(ARGV[2]))
if usable then return found(due and 'refresh' or 'early') end
return { 'miss', false, false, 0, 0, 0, false }
