-- A process ends. KEYS: live processes. ARGV: process.
return redis.call('ZREM', KEYS[1], ARGV[1])
