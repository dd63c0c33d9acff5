//! The scripts that make reading and replacing a record atomic. They know no rule.
//!
//! A record is a string, `version keep_until bytes`. Its expiry only frees the room: what counts is the moment that the
//! record names itself, by the master's clock and to the millisecond. Lua's numbers hold integers up to 2^53, which
//! microseconds since 1970 reach in the year 2255.

use redis::{Cmd, Value};

use super::super::{Key, Loaded, StoreError, Swapped, Write};
use super::keys::Bucket;
use crate::clock::Timestamp;

/// A stream keeps about this many pieces of news. Whoever falls further behind is told of a gap.
const KEPT_NEWS: &str = "10000";
/// A stream that nobody writes to is forgotten after a day, in milliseconds. Its listeners are told of a gap.
const NEWS_LIFE: &str = "86400000";

const LOAD: &str = r"
local time = redis.call('TIME')
return {redis.call('GET', KEYS[1]), time[1] * 1000 + math.floor(time[2] / 1000)}
";

// The news goes first: if its key holds something else, the call fails before anything is written. Writing the record
// cannot fail after it: whether there is memory is judged once for the whole script.
const SWAP: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local version, present = 0, 0
local record = redis.call('GET', KEYS[1])
if record then
  local keep_until
  version, keep_until = string.match(record, '^(%d+) (%d+) ')
  if not version then return -1 end
  version = tonumber(version)
  if tonumber(keep_until) > now then present = version end
end
if present ~= tonumber(ARGV[1]) then return 0 end
local next = math.max(version + 1, time[1] * 1000000 + time[2])
if ARGV[6] then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'news', ARGV[6])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
redis.call('SET', KEYS[1], string.format('%.0f %s ', next, ARGV[2]) .. ARGV[3], 'PXAT', ARGV[2])
return 1
";

// An entry without news starts a stream that is not there: so each end is an entry, and whether it is still there tells
// whether something was lost. Where there is no room for it the end is that of an empty stream.
const END: &str = r"
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last then return last[1] end
local id = redis.pcall('XADD', KEYS[1], '*', 'start', '')
if type(id) ~= 'string' then return '0-0' end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return id
";

/// What a server runs on the keys of one bucket.
pub(super) struct Call {
    script: redis::Script,
    text: &'static str,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Call {
    /// Reads a record.
    pub(super) fn load(prefix: &str, key: Key) -> Self {
        Self::new(LOAD, vec![Bucket::of(key).record(prefix, key)], Vec::new())
    }

    /// Replaces a record if it has the version.
    pub(super) fn swap(prefix: &str, key: Key, version: u64, write: Write) -> Self {
        let bucket = Bucket::of(key);
        let number = |number: u64| number.to_string().into_bytes();
        // Zero is no time to Redis, and neither is what an i64 cannot hold.
        let keep_until = write.keep_until.as_millis().clamp(1, 1 << 53);
        let mut arguments = vec![number(version), number(keep_until), write.bytes, KEPT_NEWS.into(), NEWS_LIFE.into()];
        arguments.extend(write.news);
        Self::new(SWAP, vec![bucket.record(prefix, key), bucket.news(prefix)], arguments)
    }

    /// The last id in a bucket's stream.
    pub(super) fn end(prefix: &str, bucket: Bucket) -> Self {
        Self::new(END, vec![bucket.news(prefix)], vec![NEWS_LIFE.into()])
    }

    fn new(text: &'static str, keys: Vec<String>, arguments: Vec<Vec<u8>>) -> Self {
        Self { script: redis::Script::new(text), text, keys, arguments }
    }

    /// The call by the script's hash, which the server may not know.
    pub(super) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", self.script.get_hash())
    }

    /// The call by the script's text, which makes the hash known too.
    pub(super) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}

/// What [`Call::load`] has found.
pub(super) fn loaded(answer: Value) -> Result<Loaded, StoreError> {
    let (record, now): (Option<Vec<u8>>, u64) = redis::from_redis_value(answer).map_err(|_| StoreError::Corrupt)?;
    let now = Timestamp::from_millis(now);
    let none = Loaded { bytes: None, version: 0, now };
    let Some(record) = record else { return Ok(none) };
    let mut parts = record.splitn(3, |byte| *byte == b' ');
    let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse().ok();
    let (Some(version), Some(keep_until)) = (number(), number()) else { return Err(StoreError::Corrupt) };
    let bytes = parts.next().ok_or(StoreError::Corrupt)?;
    Ok(if Timestamp::from_millis(keep_until) > now {
        Loaded { bytes: Some(bytes.to_vec()), version, now }
    } else {
        none
    })
}

/// What [`Call::swap`] has done.
pub(super) fn swapped(answer: &Value) -> Result<Swapped, StoreError> {
    if *answer == Value::Int(1) {
        Ok(Swapped::Done)
    } else if *answer == Value::Int(0) {
        Ok(Swapped::Moved)
    } else {
        Err(StoreError::Corrupt)
    }
}
