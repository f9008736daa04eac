-- Reserve quota for the calls that wait longest in one process, in their order, as far as there is
-- room. A process that has to wait stands in a line; no other overtakes the first in it. Whoever
-- comes first by that learns when there will be room for its need, which the head of the line holds.
-- Those of its needs that come at most TOGETHER ms after the first of another process go with it.
-- If nobody waits then, a process gets places for the calls that it expects next, as long as at most
-- half of a limit is taken with them. Whoever finds no room soon after that asks again when those
-- that no call has used were given back.
-- KEYS: line, head of the line, mark, then the hash and the sorted set of each member.
-- ARGV: asker (process:number), prefix of channels, topic, server; the number of places to take
-- ahead, and the input and output of each; of each member: whether the asker
-- took something in its window, the processes that use it, free places, load, four limits (0: none);
-- of each need: input, output, milliseconds that it has waited.
-- Returns the bucket; the milliseconds to wait (0: all is granted, -2: introduce yourself); the
-- number of the member of each need that is granted; and of each member what counts in it, the
-- milliseconds for which it may be held at most (0: it is not), and when it began; and the number of
-- places that were taken ahead in each member, if any.
local now = now_ms()
local asker, channels, topic = ARGV[1], ARGV[2], ARGV[3]
local mark = {KEYS[3], ARGV[4]}
local members, unknown, at = {}, false, 8
for n = 4, #KEYS, 2 do
  local had = ARGV[at] == '1'
  local member = open_member(KEYS[n], KEYS[n + 1], mark, now, had)
  member.free, member.load, member.limits = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), {}
  member.serves, member.ahead = member.free > 0, 0
  for kind = 1, 4 do
    local own, learned = tonumber(ARGV[at + 3 + kind]), member.learned[kind]
    member.limits[kind] = learned > 0 and (own == 0 or learned < own) and learned or own
  end
  if not redis.call('ZSCORE', member.known, asker) then
    if had then
      unknown = true
    else
      redis.call('ZADD', member.known, tostring(now), asker)
    end
  end
  wait_for_users(member, now, tonumber(ARGV[at + 1]))
  members[#members + 1] = member
  at = at + 8
end
local bucket = members[1].bucket
if unknown then
  return {bucket, -2, {}, {}, {}}
end

local function used_now()
  local used = {}
  for _, member in ipairs(members) do
    for kind = 1, 3 do
      used[#used + 1] = member.used[kind]
    end
    used[#used + 1] = member.unsure
    used[#used + 1] = member.born
  end
  return used
end

-- The milliseconds until a member has room.
local function wait_for(member, input, output)
  local wait = math.max(member.rest - now, member.held - now, 0)
  local limits, used = member.limits, {unpack(member.used)}
  if not exceeds(limits, used[1] + 1, used[2] + input, used[3] + output) then
    return wait
  end
  if exceeds(limits, 1, input, output) then
    return math.huge
  end
  if member.returned > now then
    return math.max(wait, member.returned - now)
  end
  local values = read_buckets(member.key, member.oldest, member.newest)
  for n = 1, #values, 3 do
    for kind = 1, 3 do
      used[kind] = used[kind] - tonumber(values[n + kind - 1] or 0)
    end
    if not exceeds(limits, used[1] + 1, used[2] + input, used[3] + output) then
      return math.max(wait, (member.oldest + (n - 1) / 3 + SPAN) * 1000 - now)
    end
  end
  return math.max(wait, (bucket + SPAN) * 1000 - now)
end

local line, head = KEYS[1], KEYS[2]

local function stand(waited, input, output)
  redis.call('ZADD', line, tostring(now - waited), asker)
  redis.call('HSET', head, 'n:' .. asker, input .. ' ' .. output)
  redis.call('PEXPIRE', line, KEPT)
  redis.call('PEXPIRE', head, KEPT)
end

local function leave(who)
  redis.call('ZREM', line, who)
  redis.call('HDEL', head, 'n:' .. who)
end

-- Call up the process that is first in the line, unless it knows. Returns until when it is the head.
local function call_up_first(first)
  local known = redis.call('HMGET', head, 'who', 'until', 'n:' .. first)
  if known[1] == first then
    return tonumber(known[2])
  end
  local wait = 0
  if known[3] then
    local input, output = string.match(known[3], '(%d+) (%d+)')
    wait = math.huge
    for _, member in ipairs(members) do
      wait = math.min(wait, wait_for(member, tonumber(input), tonumber(output)))
    end
    wait = wait < math.huge and wait or 0
  end
  call_up(head, first, now, wait, channels, topic)
  return now + wait + GRACE
end

-- Take up to `count` places ahead, each in the member with the least load.
local function take_ahead(count, input, output)
  for _ = 1, count do
    local best
    for _, member in ipairs(members) do
      local used, more = member.used, member.ahead + 1
      if member.serves and member.rest <= now and member.held <= now
        and not exceeds(member.limits, 2 * (used[1] + more), 2 * (used[2] + more * input),
          2 * (used[3] + more * output))
        and (not best or member.load < best.load) then
        best = member
      end
    end
    if not best then
      break
    end
    best.ahead, best.load = best.ahead + 1, best.load + 1
  end
  for _, member in ipairs(members) do
    if member.ahead > 0 then
      add(member, bucket, member.ahead, member.ahead * input, member.ahead * output)
      redis.call('HSET', member.key, 'returned', tostring(now + RETURNED))
    end
  end
end

local rank = now - tonumber(ARGV[at + 2] or 0)
while at <= #ARGV do
  local first = redis.call('ZRANGE', line, 0, 0, 'WITHSCORES')
  if not first[1] or first[1] == asker or tonumber(first[2]) > rank then
    break
  end
  local ends = call_up_first(first[1])
  if ends > now then
    stand(ARGV[at + 2], ARGV[at], ARGV[at + 1])
    local ahead = redis.call('ZCOUNT', line, '-inf', '(' .. tostring(rank))
    return {bucket, ends - now + (math.max(ahead, 1) - 1) * GRACE, {}, used_now(), {}}
  end
  leave(first[1])
end

-- Where the needs end that the process may have now.
local function last_need()
  local last, others = #ARGV, redis.call('ZRANGE', line, 0, 1, 'WITHSCORES')
  local score = others[1] == asker and others[4] or others[1] ~= asker and others[2]
  while score and last > at + 2 and now - ARGV[last] > tonumber(score) + TOGETHER do
    last = last - 3
  end
  return last
end

local granted, wait, last = {}, 0, last_need()
while at <= last do
  local input, output = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local best, soonest
  for n, member in ipairs(members) do
    if member.free > 0 then
      local left = wait_for(member, input, output)
      if left > 0 then
        soonest = math.min(soonest or left, left)
      elseif not best or member.load < members[best].load then
        best = n
      end
    end
  end
  if not best then
    wait = soonest or 0
    break
  end
  local member = members[best]
  member.free, member.load = member.free - 1, member.load + 1
  add(member, bucket, 1, input, output)
  granted[#granted + 1] = best
  at = at + 3
end
if wait == math.huge then
  wait = GRACE
end
if #granted > 0 then
  for _, member in ipairs(members) do
    redis.call('PEXPIRE', member.key, KEPT)
    redis.call('PEXPIRE', member.known, KEPT)
  end
end
local others_first = wait == 0 and at <= #ARGV
if wait > 0 or others_first then
  stand(ARGV[at + 2], ARGV[at], ARGV[at + 1])
  if redis.call('ZRANGE', line, 0, 0)[1] == asker then
    redis.call('HSET', head, 'who', asker, 'until', tostring(now + wait + GRACE), 'informed', 0)
    for _, member in ipairs(members) do
      redis.call('HSET', member.key, 'limits', table.concat(member.limits, ' '))
    end
    return {bucket, wait, granted, used_now(), {}}
  end
else
  leave(asker)
  if redis.call('HGET', head, 'who') == asker then
    redis.call('HDEL', head, 'who')
  end
end
local first = redis.call('ZRANGE', line, 0, 0)[1]
local ahead = {}
if first then
  local ends = call_up_first(first)
  wait = others_first and math.max(ends - now, 1) or wait
elseif #granted > 0 then
  take_ahead(tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]))
  for n, member in ipairs(members) do
    ahead[n] = member.ahead
  end
end
return {bucket, wait, granted, used_now(), ahead}
