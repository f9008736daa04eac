-- End a shared call, and send its outcome to the processes that wait. Returns their number, or -1
-- if another process leads it by now: its answer is still welcome, its error is not.
-- KEYS: answer, shared call.
-- ARGV: holder, outcome (answer, error or left), bytes, TTL in ms, prefix of channels, topic,
-- the most bytes that travel in the message.
local leads = redis.call('HGET', KEYS[2], 'holder') == ARGV[1]
if not leads and ARGV[2] ~= 'answer' then
  return -1
end
if ARGV[2] == 'answer' then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
local text = ARGV[3]
if #text > tonumber(ARGV[7]) then
  text = ''
end
local message = ARGV[6] .. '\n' .. ARGV[2] .. '\n' .. text
local waiting = 0
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  if string.sub(field, 1, 2) == 'w:' then
    redis.call('PUBLISH', ARGV[5] .. string.sub(field, 3), message)
    waiting = waiting + 1
  end
end
redis.call('DEL', KEYS[2])
if leads then
  return waiting
end
return -1
