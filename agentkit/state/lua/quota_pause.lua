-- Tell every process that a provider asks for a pause, or only ask for how long it does.
-- Returns the milliseconds that are left.
-- KEYS: pause. ARGV: milliseconds (0: only ask), channel, topic.
local now, length = now_ms(), tonumber(ARGV[1])
if length > 0 then
  redis.call('PUBLISH', ARGV[2], ARGV[3] .. '\nreport ' .. length .. ' 0 0 0 0 0')
end
return pause(KEYS[1], now, length)
