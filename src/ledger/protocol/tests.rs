use super::*;

const LEASE: Duration = Duration::from_secs(15);
const SETTLE: Duration = Duration::from_secs(60);
const LIMIT: Timestamp = Timestamp::from_secs(100_000);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(1_000 + seconds)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn apply<O: Operation>(record: &mut Record, operation: &O, now: Timestamp) -> O::Reply {
    let (next, reply) = step(std::mem::take(record), operation, now);
    *record = next;
    reply
}

fn claim(record: &mut Record, generation: u64, now: Timestamp) -> Claimed {
    apply(record, &Claim { generation, lease: LEASE, keep_until: LIMIT }, now)
}

fn commit(record: &mut Record, fence: u64, from: u64, body: &str) -> Committed {
    apply(record, &Commit { fence, from, body: body.into(), keep_until: LIMIT }, at(0))
}

fn present(record: &mut Record, generation: u64, now: Timestamp) {
    apply(record, &Presented { generation, settle: SETTLE, keep_until: LIMIT }, now);
}

fn end(record: &mut Record, reason: EndReason, generation: u64) -> Finished {
    apply(record, &End { reason, generation, only_if_newest: reason == EndReason::Refused, keep_until: LIMIT }, at(9))
}

const fn won(fence: u64) -> Claimed {
    Claimed::Won { fence, sent_before: None, failures: 0 }
}

/// A record whose generation 2 was committed and lies there unsettled.
fn advanced() -> Record {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(commit(&mut record, 1, 1, "two"), Committed::Done);
    record
}

#[test]
fn one_claim_wins_and_the_others_are_told_to_wait() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(claim(&mut record, 1, at(1)), Claimed::Busy(secs(14)));
}

#[test]
fn a_lapsed_lease_says_that_the_token_may_have_been_sent() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(
        claim(&mut record, 1, at(20)),
        Claimed::Won { fence: 2, sent_before: Some(Duration::ZERO), failures: 0 }
    );
}

#[test]
fn renewing_prolongs_ones_own_lease_only() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(apply(&mut record, &Renew { fence: 1, lease: LEASE }, at(10)), Renewed::Held);
    assert_eq!(claim(&mut record, 1, at(20)), Claimed::Busy(secs(5)));
    assert_eq!(apply(&mut record, &Renew { fence: 9, lease: LEASE }, at(20)), Renewed::Lost);
}

#[test]
fn an_older_generation_gets_the_newer_body_until_it_is_settled() {
    let mut record = advanced();
    assert_eq!(claim(&mut record, 1, at(1)), Claimed::Moved(Newest::Superseded(Some("two".into()))));
    present(&mut record, 2, at(10));
    present(&mut record, 2, at(69));
    assert_eq!(apply(&mut record, &Latest { generation: 1 }, at(69)), Newest::Superseded(Some("two".into())));
    // Shown again sixty seconds after its first showing, it is settled, and older cookies can only be copies.
    present(&mut record, 2, at(70));
    assert_eq!(apply(&mut record, &Latest { generation: 1 }, at(71)), Newest::Replayed);
    assert_eq!(apply(&mut record, &Latest { generation: 2 }, at(71)), Newest::Current);
}

#[test]
fn a_generation_between_the_settled_and_the_newest_is_late_and_not_replayed() {
    let mut record = advanced();
    present(&mut record, 2, at(0));
    present(&mut record, 2, at(60));
    assert_eq!(claim(&mut record, 2, at(61)), won(2));
    assert_eq!(commit(&mut record, 2, 2, "three"), Committed::Done);
    assert_eq!(apply(&mut record, &Latest { generation: 2 }, at(62)), Newest::Superseded(Some("three".into())));
    assert_eq!(apply(&mut record, &Latest { generation: 1 }, at(62)), Newest::Replayed);
}

#[test]
fn committing_twice_under_one_fence_is_committing_once() {
    let mut record = advanced();
    assert_eq!(commit(&mut record, 1, 1, "two"), Committed::Done);
    assert_eq!(record, advanced());
}

#[test]
fn a_late_successor_is_accepted_while_the_generation_has_not_moved() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(
        claim(&mut record, 1, at(20)),
        Claimed::Won { fence: 2, sent_before: Some(Duration::ZERO), failures: 0 }
    );
    assert_eq!(commit(&mut record, 1, 1, "late"), Committed::Done);
    assert_eq!(commit(&mut record, 2, 1, "other"), Committed::Moved(Newest::Superseded(Some("late".into()))));
}

#[test]
fn a_cookie_newer_than_the_ledger_is_proof() {
    let mut record = advanced();
    assert_eq!(claim(&mut record, 7, at(1)), won(2));
    assert_eq!(apply(&mut record, &Latest { generation: 6 }, at(2)), Newest::Superseded(None));
}

#[test]
fn a_failure_rests_and_a_success_forgets_it() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    let release = Release { fence: 1, outcome: Outcome::Unknown(secs(58)), rest: secs(28) };
    assert_eq!(apply(&mut record, &release, at(2)), Released { failures: 1, undetermined: 0, ended: false });
    assert_eq!(claim(&mut record, 1, at(3)), Claimed::Resting(secs(27)));
    assert_eq!(
        claim(&mut record, 1, at(61)),
        Claimed::Won { fence: 2, sent_before: Some(Duration::ZERO), failures: 1 }
    );
    assert_eq!(commit(&mut record, 2, 1, "two"), Committed::Done);
    assert_eq!(claim(&mut record, 2, at(62)), won(3));
}

#[test]
fn a_release_under_a_lost_fence_changes_nothing() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    let before = record.clone();
    let release = Release { fence: 8, outcome: Outcome::NotSpent, rest: secs(99) };
    assert_eq!(apply(&mut record, &release, at(1)), Released { failures: 0, undetermined: 0, ended: false });
    assert_eq!(record, before);
}

#[test]
fn undetermined_answers_count_only_when_they_lie_apart() {
    let mut record = Record::default();
    let mut count = |second: u64| {
        let Claimed::Won { fence, .. } = claim(&mut record, 1, at(second)) else { panic!("not won at {second}") };
        let outcome = Outcome::Undetermined(Duration::from_secs(10));
        apply(&mut record, &Release { fence, outcome, rest: Duration::ZERO }, at(second)).undetermined
    };
    assert_eq!([count(0), count(4), count(10), count(25)], [1, 1, 2, 3]);
}

#[test]
fn an_ending_stays_and_wins_over_a_refresh_that_lands_late() {
    // REV-R-01, BCL-2.7-04
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(end(&mut record, EndReason::Logout, 1), Finished::Now { newer: None, in_flight: true });
    let ending = Ending { reason: EndReason::Logout, at: at(9), newest: 1, revoke_on_sight: false };
    assert_eq!(commit(&mut record, 1, 1, "two"), Committed::Moved(Newest::Ended(ending)));
    assert_eq!(claim(&mut record, 1, at(99)), Claimed::Moved(Newest::Ended(ending)));
    assert_eq!(end(&mut record, EndReason::Refused, 1), Finished::Before(ending));
}

#[test]
fn a_refresh_that_fails_after_the_ending_is_told_so() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(end(&mut record, EndReason::Logout, 1), Finished::Now { newer: None, in_flight: true });
    let release = Release { fence: 1, outcome: Outcome::NotSpent, rest: secs(1) };
    assert!(apply(&mut record, &release, at(10)).ended);
}

#[test]
fn ending_hands_out_the_newest_body_or_leaves_a_mark_to_revoke_it() {
    assert_eq!(
        end(&mut advanced(), EndReason::Logout, 1),
        Finished::Now { newer: Some("two".into()), in_flight: false }
    );
    assert_eq!(end(&mut advanced(), EndReason::Logout, 2), Finished::Now { newer: None, in_flight: false });

    let mut settled = advanced();
    present(&mut settled, 2, at(0));
    present(&mut settled, 2, at(60));
    assert_eq!(end(&mut settled, EndReason::Replayed, 1), Finished::Now { newer: None, in_flight: false });
    let Newest::Ended(ending) = apply(&mut settled, &Latest { generation: 2 }, at(99)) else { panic!("not ended") };
    assert!(ending.revoke_on_sight);
    assert_eq!(ending.newest, 2);
    assert_eq!(apply(&mut settled, &TakeRevocation, at(99)), Taken::Yes);
    assert_eq!(apply(&mut settled, &TakeRevocation, at(99)), Taken::No);
}

#[test]
fn a_verdict_on_a_superseded_token_ends_nothing() {
    let mut record = advanced();
    assert_eq!(end(&mut record, EndReason::Refused, 1), Finished::Newer(Some("two".into())));
    assert_eq!(apply(&mut record, &Latest { generation: 2 }, at(9)), Newest::Current);
    assert_eq!(end(&mut record, EndReason::Refused, 2), Finished::Now { newer: None, in_flight: false });
}

#[test]
fn other_replicas_hear_of_what_moved_and_of_nothing_else() {
    let before = Record::default();
    let mut record = before.clone();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(record.change_since(&before), Some(Change::Advanced(1)));
    let before = record.clone();
    assert_eq!(commit(&mut record, 1, 1, "two"), Committed::Done);
    assert_eq!(record.change_since(&before), Some(Change::Advanced(2)));
    let before = record.clone();
    present(&mut record, 2, at(0));
    assert_eq!(record.change_since(&before), None);
    present(&mut record, 2, at(60));
    assert_eq!(record.change_since(&before), Some(Change::Settled(2)));
    assert_eq!(end(&mut record, EndReason::Idle, 2), Finished::Now { newer: None, in_flight: false });
    assert!(matches!(record.change_since(&before), Some(Change::Ended(_))));
}
