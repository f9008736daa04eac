-- The answer, the lead of the upstream call, or how long to wait for the process that has it.
-- KEYS: answer, shared call. ARGV: holder, inbox, lease in ms.
local answer = redis.call('GET', KEYS[1])
if answer then
  return {'hit', answer}
end
local now = now_ms()
local known = redis.call('HMGET', KEYS[2], 'holder', 'until')
if known[1] and known[1] ~= ARGV[1] and tonumber(known[2]) > now then
  redis.call('HSET', KEYS[2], 'w:' .. ARGV[2], '1')
  return {'wait', tonumber(known[2]) - now}
end
redis.call('HSET', KEYS[2], 'holder', ARGV[1], 'until', tostring(now + ARGV[3]))
redis.call('PEXPIRE', KEYS[2], ARGV[3] * 10)
return {'lead', tonumber(ARGV[3])}
