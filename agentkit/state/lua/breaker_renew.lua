-- Renew the lease of a probe. Returns 1, or 0 if another process holds it.
-- KEYS: circuit. ARGV: holder, lease in ms.
local c = redis.call('HMGET', KEYS[1], 'state', 'holder')
if c[1] ~= 'half-open' or c[2] ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'until', tostring(now_ms() + ARGV[2]))
return 1
