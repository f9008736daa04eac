-- Replace what was reserved by what was used. The process that waits longest
-- gets a message if there is room now.
-- Returns how many of the reservations still count.
-- KEYS: head of the line, hash of the member.
-- ARGV: prefix of channels, topic, when the member began that has the reservations; then of each of
-- them: bucket, and what to add.
local key = KEYS[2]
local found = redis.call('HMGET', key, 'oldest', 'newest', 'r', 'i', 'o', 'limits', 'born')
if not found[1] or found[7] ~= ARGV[3] then
  return 0
end
local now = now_ms()
local member = {key = key, oldest = tonumber(found[1]), newest = tonumber(found[2]),
  used = {tonumber(found[3]), tonumber(found[4]), tonumber(found[5])}}
local newest = bucket_of(now)
local oldest = math.max(member.oldest, math.floor(now / 1000) - SPAN + 1)
local counted = 0
for at = 4, #ARGV, 4 do
  local bucket = math.min(tonumber(ARGV[at]), newest)
  if bucket >= oldest then
    add(member, bucket, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
    counted = counted + 1
  end
end
local waiting = redis.call('HMGET', KEYS[1], 'who', 'until', 'informed')
if found[6] and waiting[1] and tonumber(waiting[2]) > now and waiting[3] ~= '1' then
  local limits = {}
  for each in string.gmatch(found[6], '%d+') do
    limits[#limits + 1] = tonumber(each)
  end
  local need = redis.call('HGET', KEYS[1], 'n:' .. waiting[1])
  local input, output = string.match(need or '', '(%d+) (%d+)')
  local used = member.used
  if input and not exceeds(limits, used[1] + 1, used[2] + input, used[3] + output) then
    redis.call('HSET', KEYS[1], 'informed', 1)
    redis.call('PUBLISH', ARGV[1] .. string.match(waiting[1], '^[^:]*'), ARGV[2] .. '\nroom 0')
  end
end
return counted
