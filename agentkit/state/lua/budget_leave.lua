-- A process ends: what it spent stays, its own record does not. Returns 1 if it had one.
-- KEYS: account. ARGV: process.
return redis.call('HDEL', KEYS[1], 'p:' .. ARGV[1])
