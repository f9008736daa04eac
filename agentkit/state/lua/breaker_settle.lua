-- End a probe. See `agentkit.state.circuit_questions`.
-- KEYS: circuit.
-- ARGV: holder, outcome (success, failure or left), successes that close the circuit, recovery in
-- ms, window in ms, channel, topic.
local now = now_ms()
local c = redis.call('HMGET', KEYS[1], 'state', 'era', 'until', 'holder', 'good', 'by')
local state, era, by = c[1] or 'closed', tonumber(c[2] or '0'), c[6] or ''
local wait = math.max(0, tonumber(c[3] or '0') - now)
if state ~= 'half-open' or c[4] ~= ARGV[1] then
  return {state, era, wait, -1, by}
end
wait = 0
if ARGV[2] == 'left' then
  redis.call('HSET', KEYS[1], 'until', tostring(now), 'holder', '')
elseif ARGV[2] == 'failure' then
  state, era, wait = 'open', math.max(now, era + 1), tonumber(ARGV[4])
  redis.call('HSET', KEYS[1], 'state', state, 'era', tostring(era), 'until', tostring(now + wait),
    'holder', '', 'good', '0', 'since', '0')
elseif tonumber(c[5] or '0') + 1 < tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], 'until', tostring(now), 'holder', '',
    'good', tostring(tonumber(c[5] or '0') + 1))
else
  state, era, by = 'closed', math.max(now, era + 1), ''
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'state', state, 'era', tostring(era))
end
if ARGV[2] ~= 'left' then
  redis.call('PEXPIRE', KEYS[1], ARGV[4] * 4 + ARGV[5])
end
redis.call('PUBLISH', ARGV[6], ARGV[7] .. '\n' .. KEYS[1] .. ' ' .. state .. ' ' .. era .. ' '
  .. wait .. ' -1 ' .. by)
return {state, era, wait, -1, by}
