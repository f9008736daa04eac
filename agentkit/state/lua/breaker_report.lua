-- Report failures and a tally, and get the circuit. See `agentkit.state.circuit_questions`.
-- KEYS: circuit, its hosts.
-- ARGV: host, process, witnesses, ms for which the host counts, era, failures, age of the last
-- success in ms, calls, failures and slow calls of the tally, threshold, recovery in ms, window in
-- ms, minimum of calls, failure rate, slow rate, channel, topic, ms for which the process knows the
-- circuit to be open (0: closed, -1: unknown), the witnesses that opened it then, disputed era.
local now = now_ms()
local needed, age = tonumber(ARGV[3]), tonumber(ARGV[7])
local failures, calls = tonumber(ARGV[6]), tonumber(ARGV[8])
local threshold, recovery, window = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local minimum, failure_rate, slow_rate = tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16])

redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('PEXPIRE', KEYS[2], ARGV[4])
local mode, witness = 'process', ARGV[1] .. '/' .. ARGV[2]
if redis.call('ZCARD', KEYS[2]) > 1 then
  mode, witness, needed = 'host', ARGV[1], math.max(needed, 2)
end

local c, flat = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  c[flat[i]] = flat[i + 1]
end
local state, era = c.state or 'closed', tonumber(c.era or '0')
local wait, since, by = tonumber(c['until'] or '0') - now, tonumber(c.since or '0'), c.by or ''

local function change(to, fields)
  state, era = to, math.max(now, era + 1)
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'state', state, 'era', tostring(era), unpack(fields))
  redis.call('PEXPIRE', KEYS[1], recovery * 4 + window)
  local failing_for = -1
  if state == 'open' and since > 0 then
    failing_for = now - since
  end
  redis.call('PUBLISH', ARGV[17], ARGV[18] .. '\n' .. KEYS[1] .. ' ' .. state .. ' ' .. era .. ' '
    .. math.max(wait, 0) .. ' ' .. failing_for .. ' ' .. by)
end

local function reply()
  local failing_for = -1
  if state == 'open' and since > 0 then
    failing_for = now - since
  end
  return {state, era, math.max(wait, 0), failing_for, by}
end

-- A process knows a later era: the server has lost what happened since.
local known, open_for = tonumber(ARGV[5]), tonumber(ARGV[19])
if known > era and (open_for > 0 or open_for == 0 and (state == 'open' or state == 'half-open')) then
  era, wait, since, by = known, open_for, 0, open_for > 0 and ARGV[20] or ''
  if open_for > 0 then
    change('open', {'until', tostring(now + wait), 'opened', tostring(now), 'since', '0', 'by', by})
  else
    change('closed', {})
  end
  return reply()
end

if state == 'open' and since > 0 and tonumber(ARGV[21]) == era then
  local pause = 1000
  if now < tonumber(c.quiet or '0') + 2 * tonumber(c.pause or '0') then
    pause = math.min(c.pause * 2, 30000)
  end
  wait, by = 0, ''
  change('disputed', {'quiet', tostring(now + pause), 'pause', tostring(pause)})
  return reply()
end
local says_nothing = failures == 0 and calls == 0 and (age < 0 or (c.failures or '') == '')
if says_nothing or (state ~= 'closed' and state ~= 'disputed')
    or (known ~= era and known >= 0 and era > 0) then
  return reply()
end

-- The failures in a row, the newest last: at most `most` of each witness, `threshold` in all.
local most = threshold
if needed > 1 then
  most = math.ceil(threshold / 2)
end
local row, kept, count = {}, {}, {}
if c.mode == mode then
  for at, who in string.gmatch(c.failures or '', '(%d+) ([^;]+);') do
    at = tonumber(at)
    if at > now - window and (age < 0 or at > now - age) then
      row[#row + 1] = {at, who}
    end
  end
end
for _ = 1, math.min(failures, most) do
  row[#row + 1] = {now, witness}
end
local total, distinct, oldest = 0, {}, now
for i = #row, 1, -1 do
  local at, who = row[i][1], row[i][2]
  count[who] = (count[who] or 0) + 1
  if count[who] <= most and total < math.max(threshold, needed) then
    total, oldest = total + 1, at
    table.insert(kept, 1, at .. ' ' .. who .. ';')
    if count[who] == 1 then
      distinct[#distinct + 1] = who
    end
  end
end
if total >= threshold and #distinct >= needed and now >= tonumber(c.quiet or '0') then
  table.sort(distinct)
  wait, since, by = recovery, oldest, table.concat(distinct, ',')
  change('open', {'until', tostring(now + recovery), 'opened', tostring(now),
    'since', tostring(since), 'by', by, 'quiet', c.quiet or '0', 'pause', c.pause or '0'})
  return reply()
end

-- The tallies of each witness, in six buckets of the window.
local bucket, own = math.floor(now / math.max(1, math.floor(window / 6))), 't:' .. witness
local held = 0
for field, text in pairs(c) do
  if string.sub(field, 1, 2) == 't:' then
    local left = {}
    for at, rest in string.gmatch(text, '(%d+) ([^;]+);') do
      if tonumber(at) > bucket - 6 and c.mode == mode then
        left[#left + 1] = at .. ' ' .. rest .. ';'
      end
    end
    c[field] = table.concat(left)
    if c[field] == '' then
      redis.call('HDEL', KEYS[1], field)
    else
      held = held + 1
    end
  end
end
local opens = {}
if calls > 0 and (c[own] or held < 32) then
  c[own] = (c[own] or '') .. bucket .. ' ' .. ARGV[8] .. ' ' .. ARGV[9] .. ' ' .. ARGV[10] .. ';'
  redis.call('HSET', KEYS[1], own, c[own])
  local sum, bad, slow = 0, {}, {}
  local failed_sum, slow_sum = 0, 0
  for field, text in pairs(c) do
    if string.sub(field, 1, 2) == 't:' then
      local n, f, s = 0, 0, 0
      for a, b, d in string.gmatch(text, '%d+ (%d+) (%d+) (%d+);') do
        n, f, s = n + a, f + b, s + d
      end
      sum, failed_sum, slow_sum = sum + n, failed_sum + f, slow_sum + s
      if n > 0 and n * 4 >= minimum then
        if f * 1000000 >= failure_rate * n then
          bad[#bad + 1] = string.sub(field, 3)
        end
        if s * 1000000 >= slow_rate * n then
          slow[#slow + 1] = string.sub(field, 3)
        end
      end
    end
  end
  if sum >= minimum then
    if failure_rate > 0 and #bad >= needed and failed_sum * 1000000 >= failure_rate * sum then
      opens = bad
    elseif slow_rate > 0 and #slow >= needed and slow_sum * 1000000 >= slow_rate * sum then
      opens = slow
    end
  end
end
if #opens > 0 then
  table.sort(opens)
  wait, since, by = recovery, 0, table.concat(opens, ',')
  change('open', {'until', tostring(now + recovery), 'opened', tostring(now),
    'since', '0', 'by', by, 'quiet', c.quiet or '0', 'pause', c.pause or '0'})
  return reply()
end
redis.call('HSET', KEYS[1], 'failures', table.concat(kept), 'mode', mode)
redis.call('PEXPIRE', KEYS[1], recovery * 4 + window)
return reply()
