-- What all functions may use. A *mark* is a hash with the time in ms since when each server, by its
-- name, remembers everything; negative if nothing was there before that could have been lost. Its
-- field `last` is that of the server which was marked last. A mark is lost together with the rest.

-- The name of this server; after a failover it is another one.
local function server_name()
  return string.sub(string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)'), 1, 12)
end

local function set_mark(key, server, since)
  redis.call('HSET', key, server, tostring(since), 'last', tostring(since))
  return since
end

-- The mark of a server, for a process that has read `known` before (0: nothing). Who has read a mark
-- that is gone now knows that everything was lost.
local function read_mark(key, server, now, known)
  local since = tonumber(redis.call('HGET', key, server))
  if not since then
    return set_mark(key, server, known == 0 and -now or now)
  elseif since < 0 and known ~= 0 and known ~= since or math.abs(since) > now then
    return set_mark(key, server, now)
  end
  return since
end

-- The same for a process that does not say what it has read.
local function marked_since(key, server, now)
  return tonumber(redis.call('HGET', key, server)) or set_mark(key, server, now)
end
