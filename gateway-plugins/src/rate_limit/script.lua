-- Takes a request from the buckets of its key in all limits, or from none; the time is the server's.
--
-- KEYS: one for each limit. ARGV: the cost, of which less than nothing is given back; 1 to take it whatever is left;
-- how many such requests at most; what is given back first, and how many microseconds ago that was taken; then for each
-- limit the way it counts (g: the generic cell rate algorithm, w: a sliding window), how many requests, in so many
-- microseconds, and for g how many microseconds' worth may come together.
--
-- Answers with whether it was taken (1 or 0); how many were, or the limit that refused it; in how many microseconds it
-- may come again (-1: never); and for each limit up to that one what remains and in how many microseconds all does.
-- Of several requests no more are taken than a quarter of what is left, so that there is something for others.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local cost, forced, times = tonumber(ARGV[1]), ARGV[2] == '1', tonumber(ARGV[3])
local back, age = tonumber(ARGV[4]), tonumber(ARGV[5])
local answer, buckets = {1, 0, 0}, {}

-- What is held of a limit: `full`, when all is available again; or the counts of the last window and this one.
local function read(limit)
  local at = 6 + (limit - 1) * 4
  local one = {
    way = ARGV[at], quota = tonumber(ARGV[at + 1]),
    window = tonumber(ARGV[at + 2]), tolerance = tonumber(ARGV[at + 3])
  }
  local state = redis.call('GET', KEYS[limit])
  if one.way == 'g' then
    one.interval = one.window / one.quota
    one.full = math.max(tonumber(state or 0) or 0, now)
    -- What would have come back by itself since is not given back.
    one.full = math.max(now, one.full - math.max(0, one.interval * back - age))
  else
    one.number, one.elapsed = math.floor(now / one.window), now % one.window
    one.last, one.current = 0, 0
    if state then
      local held, before, counted = string.match(state, '^(%d+):(%d+):(%d+)$')
      if tonumber(held) == one.number then
        one.last, one.current = tonumber(before), tonumber(counted)
      elseif tonumber(held) == one.number - 1 then
        one.last = tonumber(counted)
      end
    end
    local counted = math.floor((now - age) / one.window)
    if counted == one.number then
      one.current = math.max(0, one.current - back)
    elseif counted == one.number - 1 then
      one.last = math.max(0, one.last - back)
    end
  end
  return one
end

-- What remains, less than nothing where more was taken than there was, and in how many microseconds all does.
local function standing(one)
  if one.way == 'g' then
    local owed = one.full - now
    -- Half a microsecond is what rounding may lose.
    return math.floor((one.tolerance - owed + 0.5) / one.interval), math.ceil(owed)
  end
  local used = one.current + math.ceil(one.last * (one.window - one.elapsed) / one.window)
  local reset = 0
  if one.current > 0 then
    reset = 2 * one.window - one.elapsed
  elseif one.last > 0 then
    reset = one.window - one.elapsed
  end
  return one.quota - used, math.ceil(reset)
end

local function tell(one)
  local remaining, reset = standing(one)
  answer[#answer + 1] = math.max(0, remaining)
  answer[#answer + 1] = reset
end

-- In how many microseconds it may come again, if not now.
local function wait(one)
  if one.way == 'g' then
    local wanted = one.interval * cost
    if wanted > one.tolerance + 0.5 then
      return -1
    end
    return math.max(0, math.ceil(one.full + wanted - now - one.tolerance))
  end
  if cost > one.quota then
    return -1
  end
  local wait, free = one.window - one.elapsed, one.quota - cost - one.current
  if free >= 0 and one.last > 0 then
    wait = math.max(0, wait - free * one.window / one.last)
  elseif one.current > 0 then
    -- In the next window, when as much of this one is out of sight.
    wait = wait + math.max(0, one.window - (one.quota - cost) * one.window / one.current)
  end
  return math.ceil(wait)
end

local function keep()
  for limit, one in ipairs(buckets) do
    local state, life
    if one.way == 'g' then
      state, life = string.format('%.3f', one.full), one.full - now
    else
      state = string.format('%.0f:%.0f:%.0f', one.number, one.last, one.current)
      life = 2 * one.window - one.elapsed
    end
    redis.call('SET', KEYS[limit], state, 'PX', math.max(1, math.ceil(life / 1000)))
  end
end

for limit = 1, #KEYS do
  buckets[limit] = read(limit)
end
for limit, one in ipairs(buckets) do
  local remaining = standing(one)
  if remaining < cost and not forced then
    for before = 1, limit do
      tell(buckets[before])
    end
    answer[1], answer[2], answer[3] = 0, limit, wait(one)
    if back > 0 then
      keep()
    end
    return answer
  end
  if times > 1 then
    times = math.max(1, math.min(times, math.floor(remaining / 4 / cost)))
  end
end
for _, one in ipairs(buckets) do
  local taken = cost * times
  if one.way == 'g' then
    -- What is owed is owed for no longer than a window more.
    one.full = math.max(now, math.min(one.full + one.interval * taken, now + one.tolerance + one.window))
  else
    one.current = math.max(0, math.min(one.current + taken, 2 * one.quota))
  end
  tell(one)
end
answer[2] = times
keep()
return answer
