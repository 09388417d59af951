"""What Redis does in one step: every script takes many series at once.

A series is a hash: `f` the fencing number of its last claim, `i` the identity it
belongs to, `h` the replica that holds it (empty: none), `v` offset and state,
sealed in one value. After `finish` only `f` is left, against late writers.

A fencing number is larger than all before it, also than those from before Redis
lost its data: it is at least the time in microseconds.
"""

# KEYS: series. ARGV: ttl, replica, prefix of heartbeats, then identity and take_over
# ("0" or "1") of each. Returns for each: "identity" or "live" where it is refused,
# else the fencing number, the one before ("0": none) and the value ("": none).
CLAIM = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local out = {}
for i, key in ipairs(KEYS) do
  local identity, take_over = ARGV[2 + 2 * i], ARGV[3 + 2 * i]
  local have = redis.call('HMGET', key, 'f', 'i', 'h', 'v')
  local holder = have[3] or ''
  if have[2] and have[2] ~= identity then
    out[i] = {'identity'}
  elseif take_over == '0' and holder ~= '' and holder ~= ARGV[2]
      and redis.call('EXISTS', ARGV[3] .. holder) == 1 then
    out[i] = {'live'}
  else
    local fence = string.format('%.0f', math.max(now, (tonumber(have[1]) or 0) + 1))
    redis.call('HSET', key, 'f', fence, 'i', identity, 'h', ARGV[2])
    redis.call('PEXPIRE', key, ARGV[1])
    out[i] = {fence, have[1] or '0', have[4] or ''}
  end
end
return out
"""

# KEYS: series. ARGV: ttl, then fence, identity, holder and value of each; without a
# value the series is finished. Returns 1 for each that is stored, 0 for each that a
# later claim has taken.
WRITE = """
local out = {}
for i, key in ipairs(KEYS) do
  local at = 4 * i - 2
  local have = redis.call('HGET', key, 'f')
  if have and tonumber(have) > tonumber(ARGV[at]) then
    out[i] = 0
  else
    if ARGV[at + 3] == '' then
      redis.call('HDEL', key, 'i', 'h', 'v')
      redis.call('HSET', key, 'f', ARGV[at])
    else
      redis.call('HSET', key, 'f', ARGV[at], 'i', ARGV[at + 1], 'h', ARGV[at + 2],
        'v', ARGV[at + 3])
    end
    redis.call('PEXPIRE', key, ARGV[1])
    out[i] = 1
  end
end
return out
"""

# KEYS: series. ARGV: replica. Gives up claims that led to nothing.
RELEASE = """
for _, key in ipairs(KEYS) do
  if redis.call('HGET', key, 'h') == ARGV[1] then
    redis.call('HSET', key, 'h', '')
  end
end
return 0
"""
