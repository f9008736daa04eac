-- A process is alive. Returns how many are, and the server's time in ms.
-- KEYS: live processes. ARGV: process, milliseconds until it counts as gone.
local now = now_ms()
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {redis.call('ZCARD', KEYS[1]), now}
