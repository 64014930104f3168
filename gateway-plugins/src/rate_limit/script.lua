-- Takes a request from the buckets of its key in all limits, or from none; the time is the server's.
--
-- KEYS: one for each limit. ARGV: the cost, of which less than nothing is given back; 1 to take it whatever is left; then for each limit the way it counts
-- (g: the generic cell rate algorithm, w: a sliding window), how many requests, in so many microseconds, and for g how
-- many microseconds' worth may come together.
--
-- Answers with whether it was taken (1 or 0), the limit that refused it (or 0), in how many microseconds it may come
-- again (-1: never), and for each limit up to that one what remains and in how many microseconds all does.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local cost, forced = tonumber(ARGV[1]), ARGV[2] == '1'
local answer, states, lives = {1, 0, 0}, {}, {}

local function refuse(limit, wait, remaining, reset)
  answer[1], answer[2], answer[3] = 0, limit, math.ceil(wait)
  answer[#answer + 1] = remaining
  answer[#answer + 1] = math.ceil(reset)
  return answer
end

for limit = 1, #KEYS do
  local at = 3 + (limit - 1) * 4
  local way, quota = ARGV[at], tonumber(ARGV[at + 1])
  local window, tolerance = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local state = redis.call('GET', KEYS[limit])
  if way == 'g' then
    local interval = window / quota
    local full = math.max(tonumber(state or 0) or 0, now)
    local wanted = interval * cost
    local next = full + wanted
    -- Half a microsecond is what rounding may lose.
    if next - now > tolerance + 0.5 and not forced then
      local wait = wanted > tolerance + 0.5 and -1 or next - now - tolerance
      return refuse(limit, wait, math.max(0, math.floor((tolerance - (full - now) + 0.5) / interval)), full - now)
    end
    -- What is owed is owed for no longer than a window more.
    next = math.max(now, math.min(next, now + tolerance + window))
    states[limit] = string.format('%.3f', next)
    lives[limit] = next - now
    answer[#answer + 1] = math.max(0, math.floor((tolerance - (next - now) + 0.5) / interval))
    answer[#answer + 1] = math.ceil(next - now)
  else
    local number, elapsed = math.floor(now / window), now % window
    local last, current = 0, 0
    if state then
      local held, before, counted = string.match(state, '^(%d+):(%d+):(%d+)$')
      if tonumber(held) == number then
        last, current = tonumber(before), tonumber(counted)
      elseif tonumber(held) == number - 1 then
        last = tonumber(counted)
      end
    end
    local used = current + math.ceil(last * (window - elapsed) / window)
    if used + cost > quota and not forced then
      local wait = -1
      if cost <= quota then
        wait = window - elapsed
        local free = quota - cost - current
        if free >= 0 and last > 0 then
          wait = math.max(0, window - elapsed - free * window / last)
        elseif current > 0 then
          -- In the next window, when as much of this one is out of sight.
          wait = window - elapsed + math.max(0, window - (quota - cost) * window / current)
        end
      end
      local reset = current > 0 and 2 * window - elapsed or window - elapsed
      return refuse(limit, wait, math.max(0, quota - used), reset)
    end
    current = math.max(0, math.min(current + cost, 2 * quota))
    states[limit] = string.format('%.0f:%.0f:%.0f', number, last, current)
    lives[limit] = 2 * window - elapsed
    answer[#answer + 1] = math.max(0, math.min(quota, quota - used - cost))
    answer[#answer + 1] = math.ceil(lives[limit])
  end
end
for limit = 1, #KEYS do
  redis.call('SET', KEYS[limit], states[limit], 'PX', math.max(1, math.ceil(lives[limit] / 1000)))
end
return answer
