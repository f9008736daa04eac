-- The record of a shared call is one string, which Valkey reads and writes faster than a hash: when
-- the lease ends in ms, its holder, and the inboxes of those that wait, with a space before each.

-- The end of the lease, the holder, and those that wait.
local function read_call(record)
  local ends, holder, waiting = string.match(record, '^(%d+) (%S+)(.*)$')
  return tonumber(ends), holder, waiting
end

local function call_record(ends, holder, waiting)
  return string.format('%d %s%s', ends, holder, waiting)
end
