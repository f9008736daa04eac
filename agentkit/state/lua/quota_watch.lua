-- What a process should know each second, which also keeps the members alive. If the server is not
-- the one that the process believes it to be, only which one it is.
-- KEYS: hash and sorted set of each member. ARGV: asker, server, live processes, milliseconds after
-- which a process counts as gone; of each member whether the asker took something in its window.
-- Returns the server; of each member: whether the asker has to introduce itself, the milliseconds
-- that it rests and is held, those for which reported limits hold, four limits, live processes, and
-- for each bucket its age, requests, input and output.
local server = string.sub(string.match(redis.call('INFO', 'replication'),
  'master_replid:(%x+)'), 1, 12)
if server ~= ARGV[2] then
  return {server}
end
local now = now_ms()
local reply = {server}
for n = 1, #KEYS, 2 do
  local had = ARGV[4 + (n + 1) / 2] == '1'
  local member = open_member(KEYS[n], KEYS[n + 1], now, had or tonumber(ARGV[3]) > 1, tonumber(ARGV[3]))
  local unknown = had and not redis.call('ZSCORE', member.known, ARGV[1])
  if not unknown then
    redis.call('ZADD', member.known, tostring(now), ARGV[1])
  end
  redis.call('ZREMRANGEBYSCORE', member.known, '-inf', now - KEPT)
  redis.call('PEXPIRE', member.key, KEPT)
  redis.call('PEXPIRE', member.known, KEPT)
  local row = {unknown and 1 or 0, math.max(member.rest - now, 0), math.max(member.held - now, 0),
    math.max(member.forgets - now, 0)}
  for kind = 1, 4 do
    row[#row + 1] = member.learned[kind]
  end
  row[#row + 1] = redis.call('ZCOUNT', member.known, now - ARGV[4], now)
  local names = {}
  for each = member.oldest, member.newest do
    names[#names + 1] = 'r' .. each
    names[#names + 1] = 'i' .. each
    names[#names + 1] = 'o' .. each
  end
  local values = {}
  if #names > 0 then
    values = redis.call('HMGET', member.key, unpack(names))
  end
  for at = 1, #values, 3 do
    if values[at] or values[at + 1] or values[at + 2] then
      row[#row + 1] = member.bucket - (member.oldest + (at - 1) / 3)
      for kind = 0, 2 do
        row[#row + 1] = tonumber(values[at + kind] or 0)
      end
    end
  end
  reply[#reply + 1] = row
end
return reply
