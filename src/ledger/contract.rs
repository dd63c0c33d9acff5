//! What every store must do, as one suite that each of them passes.

use std::sync::Arc;
use std::time::Duration;

use super::protocol::{Claim, Claimed, Commit, Committed, End, EndReason, Latest, Newest};
use super::tombstone::{Lineage, Tombstone};
use super::view::Standing;
use super::{FirstUse, Key, Ledger, Store, Swapped, Write};
use crate::clock::{ManualClock, Timestamp};
use crate::session::SessionId;

const LIMIT: Timestamp = Timestamp::from_secs(4_000_000_000);

/// Runs the whole suite; `fresh` makes an empty store.
pub(crate) async fn check<S: Store + 'static>(fresh: impl Fn() -> Arc<S>) {
    only_the_version_that_was_loaded_can_be_replaced(&*fresh()).await;
    a_version_never_comes_back(&*fresh()).await;
    concurrent_claims_have_one_winner(fresh()).await;
    a_refresh_is_seen_by_an_older_cookie(fresh()).await;
    an_ending_reaches_the_view(fresh()).await;
    a_thing_is_used_once(fresh()).await;
    a_tombstone_is_found_by_lineage_and_only_ever_covers_more(fresh()).await;
}

async fn only_the_version_that_was_loaded_can_be_replaced(store: &dyn Store) {
    let key = Key::Once([9; 32]);
    let write = |byte| Write { bytes: vec![byte], keep_until: LIMIT, news: None };
    assert_eq!(store.swap(key, 0, write(1)).await, Ok(Swapped::Done));
    assert_eq!(store.swap(key, 0, write(2)).await, Ok(Swapped::Moved));
    let loaded = store.load(key).await.expect("loads");
    assert_eq!(loaded.bytes, Some(vec![1]));
    assert_eq!(store.swap(key, loaded.version, write(3)).await, Ok(Swapped::Done));
    assert_eq!(store.swap(key, loaded.version, write(4)).await, Ok(Swapped::Moved));
}

/// A record whose time is over counts as none, and one that takes its place is not mistaken for it.
async fn a_version_never_comes_back(store: &dyn Store) {
    let key = Key::Subject([9; 32]);
    let write = |byte, keep_until| Write { bytes: vec![byte], keep_until, news: None };
    assert_eq!(store.swap(key, 0, write(1, LIMIT)).await, Ok(Swapped::Done));
    let first = store.load(key).await.expect("loads");
    assert_eq!(store.swap(key, first.version, write(2, first.now)).await, Ok(Swapped::Done));
    let over = store.load(key).await.expect("loads");
    assert_eq!((over.bytes, over.version), (None, 0));
    assert_eq!(store.swap(key, 0, write(3, LIMIT)).await, Ok(Swapped::Done));
    assert_eq!(store.swap(key, first.version, write(4, LIMIT)).await, Ok(Swapped::Moved));
}

async fn concurrent_claims_have_one_winner(store: Arc<dyn Store>) {
    let ledger = Arc::new(ledger_over(store));
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let ledger = ledger.clone();
        claims.spawn(async move { ledger.apply(session(), &claim(1)).await.expect("applies") });
    }
    let replies = claims.join_all().await;
    assert_eq!(replies.iter().filter(|reply| matches!(reply, Claimed::Won { .. })).count(), 1);
    assert_eq!(replies.iter().filter(|reply| matches!(reply, Claimed::Busy(_))).count(), 19);
}

async fn a_refresh_is_seen_by_an_older_cookie(store: Arc<dyn Store>) {
    let ledger = ledger_over(store);
    let Ok(Claimed::Won { fence, .. }) = ledger.apply(session(), &claim(1)).await else { panic!("not won") };
    let commit = Commit { fence, from: 1, body: b"two".to_vec(), resident: false, keep_until: LIMIT };
    assert_eq!(ledger.apply(session(), &commit).await, Ok(Committed::Done));
    let newest = ledger.meet(session(), &Latest { generation: 1 }, |_| None, LIMIT).await;
    assert_eq!(newest, Ok(Newest::Superseded(Some(b"two".to_vec()))));
    assert_eq!(ledger.standing(session(), 1), Standing::Behind);
}

async fn an_ending_reaches_the_view(store: Arc<dyn Store>) {
    let ledger = ledger_over(store);
    let end = End { reason: EndReason::Logout, generation: 1, keep_until: LIMIT };
    let _first = ledger.apply(session(), &end).await.expect("applies");
    assert!(matches!(ledger.standing(session(), 1), Standing::Ended(_)));
    assert!(matches!(ledger.apply(session(), &claim(1)).await, Ok(Claimed::Moved(Newest::Ended(_)))));
}

async fn a_thing_is_used_once(store: Arc<dyn Store>) {
    let ledger = ledger_over(store);
    assert_eq!(ledger.first_use([1; 32], LIMIT).await, Ok(FirstUse::Yes));
    assert_eq!(ledger.first_use([1; 32], LIMIT).await, Ok(FirstUse::No(None)));
    assert_eq!(ledger.leave([1; 32], b"result".to_vec(), LIMIT).await, Ok(()));
    assert_eq!(ledger.first_use([1; 32], LIMIT).await, Ok(FirstUse::No(Some(b"result".to_vec()))));
}

async fn a_tombstone_is_found_by_lineage_and_only_ever_covers_more(store: Arc<dyn Store>) {
    let ada = Key::subject("https://as.test", "ada");
    let tombstone = |issued_until| Tombstone {
        reason: EndReason::IssuerLogout,
        issued_until: Timestamp::from_secs(issued_until),
        keep_until: LIMIT,
    };
    let (here, there) = (ledger_over(Arc::clone(&store)), ledger_over(store));
    assert_eq!(here.bury(ada, tombstone(50)).await, Ok(()));
    assert_eq!(here.bury(ada, tombstone(40)).await, Ok(()));
    let issued_at = |seconds| {
        let issued_at = Timestamp::from_secs(seconds);
        Lineage { subject: Some(ada), issuer_session: Some(Key::issuer_session("https://as.test", "s1")), issued_at }
    };
    assert_eq!(there.exhume(&issued_at(51)).await, Ok(None));
    assert_eq!(there.exhume(&issued_at(50)).await, Ok(Some(tombstone(50))));
}

fn ledger_over(store: Arc<dyn Store>) -> Ledger {
    Ledger::new(store, Arc::new(ManualClock::new(Timestamp::default())))
}

fn session() -> SessionId {
    SessionId::from_bytes([3; 16])
}

const fn claim(generation: u64) -> Claim {
    let (lease, deadline) = (Duration::from_secs(15), Duration::from_secs(60));
    Claim { generation, lease, deadline, keep_until: LIMIT }
}
