//! Which of the issuer's sessions have a session here, for those who say without a signature that one is over.
//!
//! Anybody can send a front-channel logout. What is not registered here is not written down, so nobody fills the ledger
//! with guesses (OpenID Connect Front-Channel Logout section 2).

use super::{Key, Ledger, StoreError, Write, decode, encode};
use crate::clock::Timestamp;

impl Ledger {
    /// Notes that a session under `key`, established by an ID token of `issued_at`, lives until `keep_until` at most.
    ///
    /// # Errors
    /// If the store fails. It may be repeated.
    pub async fn register(&self, key: Key, issued_at: Timestamp, keep_until: Timestamp) -> Result<(), StoreError> {
        let registered = self.rewrite(key.registration(), |loaded| {
            let before: Option<(Timestamp, Timestamp)> = decode(loaded.bytes.as_deref())?;
            let after =
                before.map_or((issued_at, keep_until), |(issued, keep)| (issued.max(issued_at), keep.max(keep_until)));
            let write =
                (before != Some(after)).then(|| Write { bytes: encode(&Some(after)), keep_until: after.1, news: None });
            Ok((write, ()))
        });
        registered.await
    }

    /// When the newest ID token was issued that has established a session under `key`, by the issuer's clock, and until
    /// when one of them may live; none if nobody has registered any.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn registered(&self, key: Key) -> Result<Option<(Timestamp, Timestamp)>, StoreError> {
        decode(self.store.load(key.registration()).await?.bytes.as_deref())
    }

    /// What [`leave`](Self::leave) has left under `hash`.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn left(&self, hash: [u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        decode(self.store.load(Key::Once(hash)).await?.bytes.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::ledger::memory::MemoryStore;

    #[tokio::test]
    async fn what_is_registered_is_the_newest_login_until_the_last_may_have_ended() {
        // FCL-2-04
        let start = Timestamp::from_secs(1_800_000_000);
        let clock = Arc::new(ManualClock::new(start));
        let ledger = Ledger::new(Arc::new(MemoryStore::new(Arc::clone(&clock) as Arc<_>, 1 << 20)), clock.clone());
        let (one, other) =
            (Key::issuer_session("https://as.test", "s-1"), Key::issuer_session("https://as.test", "s-2"));
        let after = |seconds| clock.now() + Duration::from_secs(seconds);
        let (early, late, short, long) = (start, after(5), after(60), after(600));
        assert_eq!(ledger.registered(one).await, Ok(None));
        ledger.register(one, late, short).await.expect("is noted");
        ledger.register(one, early, long).await.expect("is noted");
        assert_eq!(ledger.registered(one).await, Ok(Some((late, long))));
        assert_eq!(ledger.registered(other).await, Ok(None));
        clock.advance(Duration::from_secs(601));
        assert_eq!(ledger.registered(one).await, Ok(None));
    }
}
