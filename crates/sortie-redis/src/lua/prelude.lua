-- What every step shares. KEYS[1] is an entry, KEYS[2] its bucket; both lie in one slot.
--
-- An entry: v value, p its position, b when its load began, s and h when it is stale and when it
-- is no more, d how long its load took, q and i the bucket's count and life at that time, g its tags;
-- t token of the lease, x when that ends, lb when it began, lq and li as q and i, w somebody waits;
-- f floor, c until when an answer of unknown position is not stored.
-- A bucket: i its life, q its count of invalidations, a the count at the last one of everything,
-- af and ac as f and c; t:TAG the count at the last one of a tag, tf:TAG and tc:TAG as f and c.
local POINT = '(%x+):(%x+:%x+):(%x+);'

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Makes the entry live at least that long.
local function keep(ms)
  if redis.call('PTTL', KEYS[1]) < ms then redis.call('PEXPIRE', KEYS[1], math.ceil(ms)) end
end

-- A bucket that was lost begins another life: no value of its earlier one is used.
local function bucket(life)
  local b = redis.call('HMGET', KEYS[#KEYS], 'i', 'q', 'a')
  if not b[1] then
    b = { life, '0', '0' }
    redis.call('HSET', KEYS[#KEYS], 'i', life, 'q', 0, 'a', 0)
  end
  return { life = b[1], count = tonumber(b[2]), all = tonumber(b[3]) }
end

-- Whether nothing of the bucket was invalidated since a load took `count` and `life`.
local function current(b, life, count, tags)
  count = tonumber(count)
  if life ~= b.life or count < b.all then return false end
  for tag in string.gmatch(tags or '', '%d+') do
    local at = redis.call('HGET', KEYS[2], 't:' .. tag)
    if at and count < tonumber(at) then return false end
  end
  return true
end

-- Whether position p contains everything up to f. One shard that is behind outweighs those that
-- can't be compared.
local function reached(p, f)
  local here, verdict = {}, 'yes'
  for shard, history, lsn in string.gmatch(p, POINT) do here[shard] = { history, lsn } end
  for shard, history, lsn in string.gmatch(f, POINT) do
    local point = here[shard]
    if not point or point[1] ~= history then
      verdict = 'unknown'
    elseif point[2] < lsn then
      return 'behind'
    end
  end
  return verdict
end

-- The floor above f and p; where they can't be compared, p.
local function raised(f, p)
  local points, order = {}, {}
  for shard, history, lsn in string.gmatch((f or '') .. p, POINT) do
    local old = points[shard]
    if not old then order[#order + 1] = shard end
    if not old or old[1] ~= history or old[2] < lsn then points[shard] = { history, lsn } end
  end
  local out = {}
  for place, shard in ipairs(order) do
    out[place] = shard .. ':' .. points[shard][1] .. ':' .. points[shard][2] .. ';'
  end
  return table.concat(out)
end

-- Why a load that began at `began` and answered as of p may not be stored under floor f; or nil.
local function refused(p, f, cool, began)
  if not f then return nil end
  local verdict = reached(p, f)
  if verdict == 'behind' then return 'behind' end
  if verdict == 'unknown' and began < tonumber(cool) then return 'cooling' end
  return nil
end

-- Ends the lease, and tells who waits for it.
local function unlease(channel, key)
  local waits = redis.call('HGET', KEYS[1], 'w')
  redis.call('HDEL', KEYS[1], 't', 'x', 'lb', 'lq', 'li', 'w')
  if waits then redis.call('PUBLISH', channel, 'w' .. key) end
end
