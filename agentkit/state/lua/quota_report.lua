-- Tell every process that a member rests, or what limits its provider reported. Returns 1.
-- KEYS: mark, hash and sorted set of the member, pause. ARGV: server, channel, topic, milliseconds to
-- rest, milliseconds for which the limits hold, four limits (0: not reported).
local now = now_ms()
local member = open_member(KEYS[2], KEYS[3], {KEYS[1], ARGV[1]}, now, false)
local rest = math.max(member.rest, now + ARGV[4])
redis.call('HSET', member.key, 'rest', tostring(rest))
if tonumber(ARGV[4]) > 0 then
  pause(KEYS[4], now, tonumber(ARGV[4]))
end
local learned = 0
for n = 1, 4 do
  local reported, before = tonumber(ARGV[5 + n]), member.learned[n]
  if reported > 0 and (before == 0 or reported < before) then
    before = reported
  end
  redis.call('HSET', member.key, 'l' .. n, before)
  learned = learned + reported
end
if learned > 0 then
  redis.call('HSET', member.key, 'until', tostring(now + ARGV[5]))
end
local text = {ARGV[3] .. '\nreport', unpack(ARGV, 4)}
redis.call('PUBLISH', ARGV[2], table.concat(text, ' '))
return 1
