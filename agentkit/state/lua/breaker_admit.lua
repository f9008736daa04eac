-- The probe of a circuit, if it is due. See `agentkit.state.circuit_questions`.
-- KEYS: circuit. ARGV: holder, lease in ms.
local now = now_ms()
local c = redis.call('HMGET', KEYS[1], 'state', 'era', 'until', 'holder', 'by')
local state, era, by = c[1] or 'closed', tonumber(c[2] or '0'), c[5] or ''
if state == 'closed' or state == 'disputed' then
  return {state, era, 0, -1, by}
end
local wait = tonumber(c[3] or '0') - now
if wait > 0 and not (state == 'half-open' and c[4] == ARGV[1]) then
  return {state, era, wait, -1, by}
end
redis.call('HSET', KEYS[1], 'state', 'half-open', 'holder', ARGV[1],
  'until', tostring(now + ARGV[2]))
return {'probe', era, tonumber(ARGV[2]), -1, by}
