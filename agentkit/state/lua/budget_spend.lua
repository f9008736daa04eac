-- Count what a process spends in a window, and reserve more of it within a limit: also what it expects
-- to need next, if at most half of the limit is reserved then. What is refused soon after that has to
-- wait until what was not used of it was given back, and nothing more is reserved ahead meanwhile.
-- Returns a status (yes, no, wait, window, introduce or late), the time in ms, when the account was
-- born, its tokens and nano-dollars, the ms to wait, and 1 if it reserved ahead. The amounts of a process are absolute at the start of each
-- of its epochs, so that a question which got lost is corrected by the next epoch. After the account
-- was lost, what no process reports any more is the total that was heard last without what is reported.
-- KEYS: account, and the mark unless a cluster may have it on another server.
-- ARGV: process, epoch, start and end of the window in ms (end 0: never), born as heard in this
-- epoch (0: not heard); then tokens and nano-dollars each: at the start of the epoch, the part of
-- them that the account had, its total as last heard, spent since the last question, to reserve,
-- and the limit (-1: none); when that total was heard in ms (0: never), the ms to hold after a loss,
-- and 1 to reserve; and the tokens and nano-dollars to reserve ahead.
local RETURNED = 500
local QUIET = 1000
local key, field = KEYS[1], 'p:' .. ARGV[1]
local arg = {}
for i = 2, #ARGV do
  arg[i] = tonumber(ARGV[i])
end
local known = redis.call('HMGET', key, 'start', 'born', 'tokens', 'nanos', 'old_tokens',
  'old_nanos', 'old_at', 'back_tokens', 'back_nanos', 'hold', 'returned',
  'quiet', field)
local was = {}
for i = 1, 12 do
  was[i] = tonumber(known[i] or '0')
end
local exists, start, finish = known[1], arg[3], arg[4]
local now = now_ms()
if exists and was[1] > now then
  now = was[1] -- the clock jumped back into the window before
end
if now < start or (finish > 0 and now >= finish) then
  return {'window', now, 0, 0, 0, 0, 0}
end
local fresh = not exists or was[1] ~= start
if fresh then
  known[13] = false
  was = {start, now, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
  if arg[18] > 0 then
    was[10] = now + arg[19] -- it was lost: the others have to report first
  end
end
local function total(i)
  return was[i] + math.max(was[i + 2] - was[i + 5], 0)
end
local epoch, tokens, nanos = 0, 0, 0
if known[13] then
  local e, t, n = string.match(known[13], '^(%d+) (%S+) (%S+)$')
  epoch, tokens, nanos = tonumber(e), tonumber(t), tonumber(n)
  if epoch > arg[2] then
    return {'late', now, was[2], total(3), total(4), 0, 0}
  end
elseif arg[5] > 0 then
  return {'introduce', now, was[2], total(3), total(4), 0, 0}
else
  was[8], was[9] = was[8] + arg[8], was[9] + arg[9]
  if arg[18] > was[7] then
    was[5], was[6], was[7] = arg[10], arg[11], arg[18]
  end
end
if epoch < arg[2] then
  was[3], was[4] = was[3] + arg[6] - tokens, was[4] + arg[7] - nanos
  tokens, nanos = arg[6], arg[7]
end
tokens, nanos = tokens + arg[12], nanos + arg[13]
was[3], was[4] = was[3] + arg[12], was[4] + arg[13]
local status, wait, ahead = 'yes', 0, 0
local function exceeds(limits, more_tokens, more_nanos)
  return limits[1] >= 0 and total(3) + more_tokens > limits[1]
    or limits[2] >= 0 and total(4) + more_nanos > limits[2]
end
local function reserve(more_tokens, more_nanos)
  tokens, nanos = tokens + more_tokens, nanos + more_nanos
  was[3], was[4] = was[3] + more_tokens, was[4] + more_nanos
end
if arg[20] > 0 then
  local hold = was[10]
  if KEYS[2] then
    local last = math.min(tonumber(redis.call('HGET', KEYS[2], 'last')) or now, now)
    hold = math.max(hold, last + arg[19])
  end
  if hold > now then
    status, wait = 'wait', hold - now
  elseif exceeds({arg[16], arg[17]}, arg[14], arg[15]) then
    status = 'no'
    if was[11] > now then
      status, wait, was[12] = 'wait', was[11] - now, now + QUIET
    end
  else
    reserve(arg[14], arg[15])
    if arg[21] + arg[22] > 0 and was[12] <= now
      and not exceeds({arg[16] / 2, arg[17] / 2}, arg[21], arg[22]) then
      reserve(arg[21], arg[22])
      ahead, was[11] = 1, now + RETURNED
    end
  end
end
local function digits(number)
  return string.format('%.0f', number)
end
if fresh then
  redis.call('DEL', key)
end
redis.call('HSET', key, 'start', digits(was[1]), 'born', digits(was[2]), 'tokens', digits(was[3]),
  'nanos', digits(was[4]), 'old_tokens', digits(was[5]), 'old_nanos', digits(was[6]), 'old_at',
  digits(was[7]), 'back_tokens', digits(was[8]), 'back_nanos', digits(was[9]), 'hold',
  digits(was[10]), 'returned', digits(was[11]), 'quiet', digits(was[12]), field, digits(arg[2]) .. ' ' .. digits(tokens) .. ' ' .. digits(nanos))
if finish > 0 then
  redis.call('PEXPIRE', key, digits(finish - now + 60000))
end
return {status, now, was[2], total(3), total(4), wait, ahead}
