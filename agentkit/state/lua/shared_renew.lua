-- Renew the lease of a shared call. Returns 1, or 0 if another process leads it.
-- KEYS: shared call. ARGV: holder, lease in ms.
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'until', tostring(now_ms() + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 10)
return 1
