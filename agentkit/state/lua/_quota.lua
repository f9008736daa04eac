-- What the functions about quota share. A member is a hash with the buckets of its window, and a
-- sorted set of the processes that have said what they took. Its window has one bucket a second; an
-- admission counts in the bucket of SEND_WITHIN ms later, by when its call has left, until that bucket is SPAN
-- seconds old: for 60 to 61 seconds after it has left.
local SPAN = 61
local SEND_WITHIN = 100
local RETURNED = 500
local HOLD = 2500
local LONGEST_HOLD = 5000
local GRACE = 1000
local TOGETHER = 5000
local KEPT = 2 * SPAN * 1000

-- The bucket of what is admitted now.
local function bucket_of(now)
  return math.floor((now + SEND_WITHIN) / 1000)
end

-- What the buckets of a member hold from one to another: requests, input and output of each in turn.
local function read_buckets(key, first, last)
  local names = {}
  for each = first, last do
    names[#names + 1] = 'r' .. each
    names[#names + 1] = 'i' .. each
    names[#names + 1] = 'o' .. each
  end
  return #names > 0 and redis.call('HMGET', key, unpack(names)) or names, names
end

-- A member without what has expired. It starts anew if a part of it is lost, or if the server's
-- clock went far back. Then it is held if any process may have taken something: for HOLD after the
-- loss, so that all have time to say what they took. Nobody took anything of a member that was never
-- used, on a server that remembers everything for long enough to have heard of it.
-- `mark` has its key and the name of the server; `had` is whether the process took something.
local function open_member(key, known, mark, now, had)
  local bucket = math.floor(now / 1000)
  local found = redis.call('HMGET', key, 'oldest', 'newest', 'r', 'i', 'o', 'rest', 'held', 'until',
    'l1', 'l2', 'l3', 'l4', 'patient', 'expected', 'born', 'returned')
  local member = {key = key, known = known, bucket = bucket_of(now), learned = {}}
  local oldest, newest = tonumber(found[1] or 0), tonumber(found[2] or 0)
  local is_known = redis.call('EXISTS', known) == 1
  if not found[1] or newest - bucket > 2 * SPAN or not is_known then
    local since = marked_since(mark[1], mark[2], now)
    if had or found[1] or is_known then
      since = now
    end
    oldest, newest = bucket, bucket
    found = {[15] = now}
    if since + LONGEST_HOLD > now then
      found[7], found[13], found[14] = since + HOLD, since + LONGEST_HOLD, 0
    end
    redis.call('DEL', key, known)
    redis.call('HSET', key, 'oldest', bucket, 'newest', bucket, 'r', 0, 'i', 0, 'o', 0,
      'held', tostring(found[7] or 0), 'patient', tostring(found[13] or 0), 'expected', 0,
      'born', tostring(now))
    redis.call('ZADD', known, '+inf', '')
    redis.call('PEXPIRE', key, KEPT)
    redis.call('PEXPIRE', known, KEPT)
  end
  local used = {tonumber(found[3] or 0), tonumber(found[4] or 0), tonumber(found[5] or 0)}
  local last = math.min(bucket - SPAN, newest)
  if oldest <= last then
    local values, names = read_buckets(key, oldest, last)
    for n, value in ipairs(values) do
      local kind = (n - 1) % 3 + 1
      used[kind] = used[kind] - tonumber(value or 0)
    end
    redis.call('HDEL', key, unpack(names))
    oldest = last + 1
    redis.call('HSET', key, 'oldest', oldest, 'r', used[1], 'i', used[2], 'o', used[3])
  end
  member.oldest, member.newest, member.used = oldest, newest, used
  member.rest, member.held = tonumber(found[6] or 0), tonumber(found[7] or 0)
  member.patient, member.expected = tonumber(found[13] or 0), tonumber(found[14] or 0)
  member.unsure, member.born, member.returned = 0, tonumber(found[15]), tonumber(found[16] or 0)
  member.forgets = tonumber(found[8] or 0)
  for n = 1, 4 do
    member.learned[n] = member.forgets > now and tonumber(found[8 + n] or 0) or 0
  end
  return member
end

-- Hold a member longer if fewer processes have come than some process knows to use it.
local function wait_for_users(member, now, users)
  if member.patient > now then
    local most = math.max(member.expected, users)
    redis.call('HSET', member.key, 'expected', most)
    if redis.call('ZCARD', member.known) - 1 < most then
      member.held = member.patient
    end
  end
  member.unsure = member.held > now and member.patient - now or 0
end

-- Add to a bucket of a member.
local function add(member, bucket, requests, inputs, outputs)
  if bucket < member.oldest then
    member.oldest = bucket
    redis.call('HSET', member.key, 'oldest', bucket)
  end
  if bucket > member.newest then
    member.newest = bucket
    redis.call('HSET', member.key, 'newest', bucket)
  end
  for n, each in ipairs({{'r', requests}, {'i', inputs}, {'o', outputs}}) do
    if each[2] ~= 0 then
      redis.call('HINCRBY', member.key, each[1] .. bucket, each[2])
      redis.call('HINCRBY', member.key, each[1], each[2])
      member.used[n] = member.used[n] + each[2]
    end
  end
end

-- Let a pause last for so many milliseconds at least; how many it does. It is not part of a member,
-- as processes without limits know of no member.
local function pause(key, now, milliseconds)
  local left = math.max(tonumber(redis.call('GET', key) or 0) - now, 0)
  if milliseconds > left then
    left = milliseconds
    redis.call('SET', key, tostring(now + left), 'PX', left)
  end
  return left
end

-- Whether so much is more than the limits, of which 0 is none.
local function exceeds(limits, requests, inputs, outputs)
  return limits[1] > 0 and requests > limits[1] or limits[2] > 0 and inputs > limits[2]
    or limits[3] > 0 and outputs > limits[3] or limits[4] > 0 and inputs + outputs > limits[4]
end

-- Let a process ask that is first in the line, and let no other overtake it for a while. With
-- `wait`, it asks after as many ms.
local function call_up(head, who, now, wait, channels, topic)
  redis.call('HSET', head, 'who', who, 'until', tostring(now + wait + GRACE),
    'informed', wait == 0 and 1 or 0)
  redis.call('PEXPIRE', head, KEPT)
  redis.call('PUBLISH', channels .. string.match(who, '^[^:]*'), topic .. '\nroom ' .. wait)
end
