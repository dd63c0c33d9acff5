//! Under which names records and news lie.
//!
//! A record and the stream with its news are written together, so in a cluster they have to be in one slot. A stream
//! per record would be one to listen to per session; so records share buckets, each with one stream. The names are the
//! same on a single server: nothing has to move when one grows.

use super::super::Key;

/// One of the parts that the records are spread over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket(u8);

/// How many there are. Another number is another layout: records and news would be looked for elsewhere.
pub(super) const BUCKETS: u8 = 16;

impl Bucket {
    /// All of them, in order.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..BUCKETS).map(Self)
    }

    /// The bucket of a record. Ids and hashes are random, so their last bits are as good as any.
    pub(super) fn of(key: Key) -> Self {
        let last = match key {
            Key::Session(id) => {
                let [.., last] = id.as_bytes();
                *last
            }
            Key::Once([.., last])
            | Key::Subject([.., last])
            | Key::IssuerSession([.., last])
            | Key::Everyone([.., last])
            | Key::Roster([.., last])
            | Key::Directory([.., last]) => last,
        };
        Self(last % BUCKETS)
    }

    /// Its place in [`all`](Self::all).
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The cluster's slot: CRC-16 (XMODEM) of the hash tag.
    pub(super) fn slot(self) -> u16 {
        let crc =
            self.tag().bytes().fold(0_u16, |crc, byte| {
                (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
                    if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
                })
            });
        crc % 16_384
    }

    fn tag(self) -> String {
        format!("b{}", self.0)
    }

    /// The name of its stream.
    pub(super) fn news(self, prefix: &str) -> String {
        format!("{prefix}:{{{}}}:news", self.tag())
    }

    /// The name of a record in it.
    pub(super) fn record(self, prefix: &str, key: Key) -> String {
        let (kind, id): (char, &[u8]) = match &key {
            Key::Session(id) => ('s', id.as_bytes()),
            Key::Once(hash) => ('o', hash),
            Key::Subject(hash) => ('u', hash),
            Key::IssuerSession(hash) => ('i', hash),
            Key::Everyone(hash) => ('e', hash),
            Key::Roster(hash) => ('r', hash),
            Key::Directory(hash) => ('d', hash),
        };
        let id = base64_simd::URL_SAFE_NO_PAD.encode_to_string(id);
        format!("{prefix}:{{{}}}:{kind}:{id}", self.tag())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;

    #[test]
    fn a_record_and_its_news_share_a_hash_tag() {
        let key = Key::Session(SessionId::from_bytes([0x17; 16]));
        let bucket = Bucket::of(key);
        assert_eq!(bucket.record("vestibule", key), "vestibule:{b7}:s:FxcXFxcXFxcXFxcXFxcXFw");
        assert_eq!(bucket.news("vestibule"), "vestibule:{b7}:news");
    }

    /// The first and the last as a server tells them (`CLUSTER KEYSLOT`); two or three nodes that share the slots evenly
    /// each get a fair part of the buckets.
    #[test]
    fn buckets_are_spread_over_the_slots_of_a_cluster() {
        let slots: Vec<_> = Bucket::all().map(Bucket::slot).collect();
        assert_eq!((slots[0], slots[15]), (6939, 9561));
        let share = |nodes: u16, node| slots.iter().filter(|slot| **slot / (16_384 / nodes + 1) == node).count();
        assert_eq!([share(2, 0), share(2, 1)], [8, 8]);
        assert_eq!([share(3, 0), share(3, 1), share(3, 2)], [4, 6, 6]);
    }
}
