-- The answer; or 0, and the holder leads the upstream call; or for how many ms to wait for the
-- process that leads it. No reply is an array, which takes longer to build and to read.
-- KEYS: answer, shared call. ARGV: holder, inbox, lease in ms.
local answer = redis.call('GET', KEYS[1])
if answer then
  return answer
end
local now, lease = now_ms(), tonumber(ARGV[3])
local mine = call_record(now + lease, ARGV[1], '')
local known = redis.call('SET', KEYS[2], mine, 'NX', 'GET', 'PX', 10 * lease)
if not known then
  return 0
end
local ends, holder, waiting = read_call(known)
if holder ~= ARGV[1] and ends > now then
  if not string.find(waiting .. ' ', ' ' .. ARGV[2] .. ' ', 1, true) then
    redis.call('SET', KEYS[2], known .. ' ' .. ARGV[2], 'KEEPTTL')
  end
  return ends - now
end
redis.call('SET', KEYS[2], call_record(now + lease, ARGV[1], waiting), 'PX', 10 * lease)
return 0
