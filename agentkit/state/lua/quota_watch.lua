-- What a process should know each second, which also keeps the members alive. If the server is not
-- the one that the process believes it to be, only which one it is.
-- KEYS: mark, then the hash and the sorted set of each member. ARGV: asker, server, the mark that the
-- process has read before (0: none), milliseconds after which a process counts as gone; of each
-- member whether the asker took something in its window, and the processes that use it.
-- Returns the server; of each member: whether the asker has to introduce itself, the milliseconds
-- that it rests and may be held at most, those for which reported limits hold, four limits, when
-- it began, live processes, and for each bucket its age, requests, input and output.
local server = server_name()
if server ~= ARGV[2] then
  return {server}
end
local now = now_ms()
read_mark(KEYS[1], server, now, tonumber(ARGV[3]))
local reply = {server}
for n = 2, #KEYS, 2 do
  local had = ARGV[3 + n] == '1'
  local member = open_member(KEYS[n], KEYS[n + 1], {KEYS[1], server}, now, had)
  local unknown = had and not redis.call('ZSCORE', member.known, ARGV[1])
  if not unknown then
    redis.call('ZADD', member.known, tostring(now), ARGV[1])
  end
  wait_for_users(member, now, tonumber(ARGV[4 + n]))
  redis.call('ZREMRANGEBYSCORE', member.known, '-inf', now - KEPT)
  redis.call('PEXPIRE', member.key, KEPT)
  redis.call('PEXPIRE', member.known, KEPT)
  local row = {unknown and 1 or 0, math.max(member.rest - now, 0), member.unsure,
    math.max(member.forgets - now, 0)}
  for kind = 1, 4 do
    row[#row + 1] = member.learned[kind]
  end
  row[#row + 1] = member.born
  row[#row + 1] = redis.call('ZCOUNT', member.known, now - ARGV[4], now)
  local values = read_buckets(member.key, member.oldest, member.newest)
  for at = 1, #values, 3 do
    if values[at] or values[at + 1] or values[at + 2] then
      row[#row + 1] = math.floor(now / 1000) - (member.oldest + (at - 1) / 3)
      for kind = 0, 2 do
        row[#row + 1] = tonumber(values[at + kind] or 0)
      end
    end
  end
  reply[#reply + 1] = row
end
return reply
