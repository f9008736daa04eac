-- Say what a process took: all of it if the member does not know the process, or else what it took
-- without asking. Returns the bucket, 1 if all was counted, and when the member began.
-- KEYS: mark, hash and sorted set of the member. ARGV: asker, server, number of entries for an
-- unknown process, those, then the entries for a known one; of each: age in seconds, requests,
-- input, output.
local now = now_ms()
local member = open_member(KEYS[2], KEYS[3], {KEYS[1], ARGV[2]}, now, true)
local first, last = 4, 3 + 4 * ARGV[3]
local known = redis.call('ZSCORE', member.known, ARGV[1])
if known then
  first, last = last + 1, #ARGV
end
for at = first, last, 4 do
  local age = tonumber(ARGV[at])
  if age < SPAN then
    add(member, member.bucket - age, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]),
      tonumber(ARGV[at + 3]))
  end
end
redis.call('ZADD', member.known, tostring(now), ARGV[1])
redis.call('PEXPIRE', member.key, KEPT)
redis.call('PEXPIRE', member.known, KEPT)
return {member.bucket, known and 0 or 1, member.born}
