-- End a shared call, and send its outcome to the processes that wait. Returns their number, or -1
-- if another process leads it by now: its answer is still welcome, its error is not.
-- KEYS: answer, shared call, which is the topic of the message, too.
-- ARGV: holder, outcome (answer, error or left), bytes, TTL in ms, prefix of channels, the most
-- bytes that travel in the message.
local known, holder, waiting = redis.call('GET', KEYS[2]), nil, ''
if known then
  local _
  _, holder, waiting = read_call(known)
end
if holder ~= ARGV[1] and ARGV[2] ~= 'answer' then
  return -1
end
if ARGV[2] == 'answer' then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
if known then
  redis.call('DEL', KEYS[2])
end
local count = 0
if waiting ~= '' then
  local text = #ARGV[3] > tonumber(ARGV[6]) and '' or ARGV[3]
  local message = KEYS[2] .. '\n' .. ARGV[2] .. '\n' .. text
  for inbox in string.gmatch(waiting, '%S+') do
    redis.call('PUBLISH', ARGV[5] .. inbox, message)
    count = count + 1
  end
end
return holder == ARGV[1] and count or -1
