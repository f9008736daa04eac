-- A process is alive. Returns how many are, the server's time in ms, and its mark.
-- KEYS: live processes, mark. ARGV: process, milliseconds until it counts as gone, the mark that it
-- has read before (0: none).
local now = now_ms()
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {redis.call('ZCARD', KEYS[1]), now, read_mark(KEYS[2], server_name(), now, tonumber(ARGV[3]))}
