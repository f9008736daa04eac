-- Count what a process spends in a window, and reserve more of it within a limit. Returns a status
-- (yes, no, wait, window, introduce or late), the time in ms, when the account was born, its tokens
-- and nano-dollars, and the ms to wait. The amounts of a process are absolute at the start of each
-- of its epochs, so that a question which got lost is corrected by the next epoch. After the account
-- was lost, what no process reports any more is the total that was heard last without what is reported.
-- KEYS: account, and the mark unless a cluster may have it on another server.
-- ARGV: process, epoch, start and end of the window in ms (end 0: never), born as heard in this
-- epoch (0: not heard); then tokens and nano-dollars each: at the start of the epoch, the part of
-- them that the account had, its total as last heard, spent since the last question, to reserve,
-- and the limit (-1: none); when that total was heard in ms (0: never), the ms to hold after a loss,
-- and 1 to reserve.
local key, field = KEYS[1], 'p:' .. ARGV[1]
local arg = {}
for i = 2, #ARGV do
  arg[i] = tonumber(ARGV[i])
end
local known = redis.call('HMGET', key, 'start', 'born', 'tokens', 'nanos', 'old_tokens',
  'old_nanos', 'old_at', 'back_tokens', 'back_nanos', 'hold', field)
local was = {}
for i = 1, 10 do
  was[i] = tonumber(known[i] or '0')
end
local exists, start, finish = known[1], arg[3], arg[4]
local now = now_ms()
if exists and was[1] > now then
  now = was[1] -- the clock jumped back into the window before
end
if now < start or (finish > 0 and now >= finish) then
  return {'window', now, 0, 0, 0, 0}
end
local fresh = not exists or was[1] ~= start
if fresh then
  known[11] = false
  was = {start, now, 0, 0, 0, 0, 0, 0, 0, 0}
  if arg[18] > 0 then
    was[10] = now + arg[19] -- it was lost: the others have to report first
  end
end
local function total(i)
  return was[i] + math.max(was[i + 2] - was[i + 5], 0)
end
local epoch, tokens, nanos = 0, 0, 0
if known[11] then
  local e, t, n = string.match(known[11], '^(%d+) (%S+) (%S+)$')
  epoch, tokens, nanos = tonumber(e), tonumber(t), tonumber(n)
  if epoch > arg[2] then
    return {'late', now, was[2], total(3), total(4), 0}
  end
elseif arg[5] > 0 then
  return {'introduce', now, was[2], total(3), total(4), 0}
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
local status, wait = 'yes', 0
if arg[20] > 0 then
  local hold = was[10]
  if KEYS[2] then
    local last = math.min(tonumber(redis.call('HGET', KEYS[2], 'last')) or now, now)
    hold = math.max(hold, last + arg[19])
  end
  if hold > now then
    status, wait = 'wait', hold - now
  elseif (arg[16] >= 0 and total(3) + arg[14] > arg[16])
    or (arg[17] >= 0 and total(4) + arg[15] > arg[17]) then
    status = 'no'
  else
    tokens, nanos = tokens + arg[14], nanos + arg[15]
    was[3], was[4] = was[3] + arg[14], was[4] + arg[15]
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
  digits(was[10]), field, digits(arg[2]) .. ' ' .. digits(tokens) .. ' ' .. digits(nanos))
if finish > 0 then
  redis.call('PEXPIRE', key, digits(finish - now + 60000))
end
return {status, now, was[2], total(3), total(4), wait}
