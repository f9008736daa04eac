-- Close a circuit, and forget everything. Returns 1, or 0 if nothing was known.
-- KEYS: circuit. ARGV: channel, topic.
local era = redis.call('HGET', KEYS[1], 'era')
if redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
local after = math.max(now_ms(), tonumber(era or '0') + 1)
redis.call('HSET', KEYS[1], 'state', 'closed', 'era', tostring(after))
redis.call('PEXPIRE', KEYS[1], 60000)
redis.call('PUBLISH', ARGV[1], ARGV[2] .. '\n' .. KEYS[1] .. ' closed ' .. after .. ' 0 -1 ')
return 1
