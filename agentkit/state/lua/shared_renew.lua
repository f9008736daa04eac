-- Renew the lease of a shared call. Returns 1, or 0 if another process leads it.
-- KEYS: shared call. ARGV: holder, lease in ms.
local known = redis.call('GET', KEYS[1])
if not known then
  return 0
end
local _, holder, waiting = read_call(known)
if holder ~= ARGV[1] then
  return 0
end
local record = call_record(now_ms() + ARGV[2], holder, waiting)
redis.call('SET', KEYS[1], record, 'PX', ARGV[2] * 10)
return 1
