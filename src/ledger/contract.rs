//! What every store must do, as one suite that each of them passes.

use std::sync::Arc;
use std::time::Duration;

use super::protocol::{Claim, Claimed, Commit, Committed, End, EndReason, Latest, Newest};
use super::tombstone::{Lineage, Tombstone};
use super::view::Standing;
use super::{Changes, FirstUse, Key, Ledger, Position, Store, Swapped, Write};
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

/// Runs what a store with [`Changes`](super::Changes) must do besides; `a` and `b` are two handles onto one empty store.
pub(crate) async fn check_changes<S: Store + 'static>(a: Arc<S>, b: Arc<S>) {
    whoever_listens_for_the_first_time_is_told_of_a_gap(&*a).await;
    every_write_is_heard_once_and_in_order(&*a, &*b).await;
    a_write_that_lost_is_no_news(&*a, &*b).await;
    what_is_written_while_nobody_listens_is_heard_later(&*a, &*b).await;
    whoever_waits_is_woken(&a, &*b).await;
}

fn changes<S: Store>(store: &S) -> &dyn Changes {
    store.changes().expect("has changes")
}

async fn put(store: &dyn Store, key: Key, byte: u8) -> Swapped {
    let version = store.load(key).await.expect("loads").version;
    let write = Write { bytes: vec![byte], keep_until: LIMIT, news: Some(vec![byte]) };
    store.swap(key, version, write).await.expect("swaps")
}

/// Listens until as many pieces of news have come; more than that, or a gap, is wrong.
async fn hear<S: Store>(store: &S, position: &mut Position, number: usize) -> Vec<u8> {
    let mut news = Vec::new();
    while news.len() < number {
        let heard = changes(store).after(Some(position)).await.expect("hears");
        assert!(!heard.gap, "after {news:?}");
        *position = heard.position;
        news.extend(heard.news.concat());
    }
    assert_eq!(news.len(), number, "{news:?}");
    news
}

async fn end<S: Store>(store: &S) -> Position {
    changes(store).after(None).await.expect("has an end").position
}

async fn whoever_listens_for_the_first_time_is_told_of_a_gap<S: Store>(store: &S) {
    assert_eq!(put(store, Key::Once([20; 32]), 1).await, Swapped::Done);
    let first = changes(store).after(None).await.expect("has an end");
    assert_eq!((first.news.len(), first.gap), (0, true));
    // Waits, and hears nothing: what was written before the first call is in the gap.
    let second = changes(store).after(Some(&first.position)).await.expect("hears");
    assert_eq!((second.news.len(), second.gap), (0, false));
}

/// Own writes too. Keys may be heard in any order, each key's writes in theirs.
async fn every_write_is_heard_once_and_in_order<S: Store>(a: &S, b: &S) {
    let (mut at_a, mut at_b) = (end(a).await, end(b).await);
    for number in 0..30 {
        assert_eq!(put(b, Key::Subject([number % 3; 32]), number).await, Swapped::Done);
    }
    for heard in [hear(a, &mut at_a, 30).await, hear(b, &mut at_b, 30).await] {
        for key in 0..3 {
            let of_key: Vec<_> = heard.iter().copied().filter(|number| number % 3 == key).collect();
            assert_eq!(of_key, (0..30).filter(|number| number % 3 == key).collect::<Vec<_>>());
        }
    }
}

async fn a_write_that_lost_is_no_news<S: Store>(a: &S, b: &S) {
    let mut at_a = end(a).await;
    let lost = Write { bytes: vec![8], keep_until: LIMIT, news: Some(vec![8]) };
    assert_eq!(b.swap(Key::Once([22; 32]), 77, lost).await, Ok(Swapped::Moved));
    assert_eq!(put(b, Key::Once([22; 32]), 9).await, Swapped::Done);
    assert_eq!(hear(a, &mut at_a, 1).await, [9]);
}

async fn what_is_written_while_nobody_listens_is_heard_later<S: Store>(a: &S, b: &S) {
    let position = end(a).await;
    assert_eq!(put(b, Key::Once([23; 32]), 1).await, Swapped::Done);
    // The same position twice: an answer that was lost can be had again.
    for mut position in [position.clone(), position] {
        assert_eq!(hear(a, &mut position, 1).await, [1]);
    }
}

async fn whoever_waits_is_woken<S: Store + 'static>(a: &Arc<S>, b: &S) {
    let mut position = end(&**a).await;
    let mut listener = tokio::task::JoinSet::new();
    let a = Arc::clone(a);
    listener.spawn(async move { hear(&*a, &mut position, 1).await });
    tokio::task::yield_now().await;
    assert_eq!(put(b, Key::Once([24; 32]), 5).await, Swapped::Done);
    assert_eq!(listener.join_next().await.expect("ends").expect("hears"), [5]);
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
    let commit = Commit { fence, from: 1, unspent: false, body: b"two".to_vec(), resident: false, keep_until: LIMIT };
    assert_eq!(ledger.apply(session(), &commit).await, Ok(Committed::Done));
    let newest = ledger.meet(session(), &Latest { generation: 1 }, |_| None, LIMIT, LIMIT).await;
    assert_eq!(newest, Ok(Newest::Superseded(Some(b"two".to_vec()))));
    assert_eq!(ledger.newest(session()), 2);
}

async fn an_ending_reaches_the_view(store: Arc<dyn Store>) {
    let ledger = ledger_over(store);
    assert_eq!(ledger.meet(session(), &Latest { generation: 1 }, |_| None, LIMIT, LIMIT).await, Ok(Newest::Current));
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
        let (sid, everyone) = (Key::issuer_session("https://as.test", "s1"), Key::everyone("https://as.test"));
        Lineage { subject: Some(ada), any_tenant: None, issuer_session: Some(sid), everyone, issued_at }
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
