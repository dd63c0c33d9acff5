use super::*;

const LEASE: Duration = Duration::from_secs(15);
const DEADLINE: Duration = Duration::from_secs(60);
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
    apply(record, &Claim { generation, lease: LEASE, deadline: DEADLINE, keep_until: LIMIT }, now)
}

fn commit(record: &mut Record, fence: u64, from: u64, body: &str) -> Committed {
    apply(record, &Commit { fence, from, unspent: false, body: body.into(), resident: false, keep_until: LIMIT }, at(0))
}

fn present(record: &mut Record, generation: u64, now: Timestamp) {
    apply(record, &Presented { generation, settle: SETTLE, keep_until: LIMIT }, now);
}

#[test]
fn a_use_that_no_cookie_tells_of_is_remembered_through_refreshes() {
    let mut record = Record::default();
    assert_eq!(apply(&mut record, &LastUse, at(0)), None);
    apply(&mut record, &Used { keep_until: LIMIT }, at(0));
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(commit(&mut record, 1, 1, "two"), Committed::Done);
    assert_eq!(apply(&mut record, &LastUse, at(5)), Some(secs(5)));
    // A store that has lost it is told again.
    let mut lost = Record::default();
    apply(&mut lost, &Reassert(record), at(6));
    assert_eq!(apply(&mut lost, &LastUse, at(6)), Some(secs(6)));
}

fn end(record: &mut Record, reason: EndReason, generation: u64) -> Finished {
    apply(record, &End { reason, generation, keep_until: LIMIT }, at(9))
}

fn refuse(record: &mut Record, generation: u64) -> Newest {
    apply(record, &Refuse { generation, keep_until: LIMIT }, at(9))
}

/// What [`end`] makes of a record, with its newest generation.
const fn ended(newest: u64, newer: Option<Vec<u8>>, in_flight: bool, revoke_on_sight: bool) -> Finished {
    Finished::Now { ending: ending(newest, revoke_on_sight), newer, in_flight }
}

const fn ending(newest: u64, revoke_on_sight: bool) -> Ending {
    Ending { reason: EndReason::Logout, at: Timestamp::from_secs(1_009), newest, revoke_on_sight }
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
fn a_lapsed_lease_is_given_away_only_when_its_holder_does_not_renew_it() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    // Whoever finds it lapsed first cannot know whether the clock was set.
    assert_eq!(claim(&mut record, 1, at(3600)), Claimed::Busy(Duration::ZERO));
    assert_eq!(claim(&mut record, 1, at(3605)), Claimed::Busy(Duration::ZERO));
    let mut alive = record.clone();
    assert_eq!(apply(&mut alive, &Renew { fence: 1, lease: LEASE }, at(3606)), Renewed::Held);
    assert_eq!(claim(&mut alive, 1, at(3615)), Claimed::Busy(secs(6)));
    assert_eq!(
        claim(&mut record, 1, at(3610)),
        Claimed::Won { fence: 2, sent_before: Some(Duration::ZERO), failures: 0 }
    );
}

#[test]
fn the_token_of_a_lapsed_lease_may_have_been_sent_and_its_answer_may_still_come() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(claim(&mut record, 1, at(20)), Claimed::Busy(Duration::ZERO));
    assert_eq!(claim(&mut record, 1, at(30)), Claimed::Won { fence: 2, sent_before: Some(secs(30)), failures: 0 });
}

#[test]
fn a_clock_that_is_set_back_stops_nobody_for_longer_than_a_minute() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(90_000)), won(1));
    let release = Release { fence: 1, outcome: Outcome::Unknown(secs(58)), rest: secs(28) };
    assert_eq!(apply(&mut record, &release, at(90_000)), Released { failures: 1, undetermined: 0, ended: false });
    assert_eq!(claim(&mut record, 1, at(0)), Claimed::Resting(secs(60)));
    let again = claim(&mut record, 1, at(60));
    assert_eq!(again, Claimed::Won { fence: 2, sent_before: Some(Duration::ZERO), failures: 1 });

    let mut held = Record::default();
    assert_eq!(claim(&mut held, 1, at(90_000)), won(1));
    assert_eq!(claim(&mut held, 1, at(0)), Claimed::Busy(secs(60)));
    assert_eq!(claim(&mut held, 1, at(60)), Claimed::Busy(Duration::ZERO));
    assert!(matches!(claim(&mut held, 1, at(70)), Claimed::Won { fence: 2, .. }));
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
    assert_eq!(apply(&mut record.clone(), &Latest { generation: 1 }, at(69)), Newest::Superseded(Some("two".into())));
    // Shown again sixty seconds after its first showing, it is settled, and older cookies can only be copies.
    present(&mut record, 2, at(70));
    assert_eq!(apply(&mut record, &Latest { generation: 1 }, at(71)), Newest::Replayed);
    assert_eq!(apply(&mut record, &Latest { generation: 2 }, at(71)), Newest::Current);
}

#[test]
fn while_an_older_cookie_is_about_nothing_is_settled() {
    let mut record = advanced();
    present(&mut record, 2, at(0));
    // A late answer has put the older cookie back, and the browser sends two requests with it: the first brings the newer
    // one, which is shown again while the second is still on its way.
    assert_eq!(apply(&mut record, &Latest { generation: 1 }, at(100)), Newest::Superseded(Some("two".into())));
    present(&mut record, 2, at(101));
    assert_eq!(apply(&mut record, &Latest { generation: 1 }, at(102)), Newest::Superseded(Some("two".into())));
    present(&mut record, 2, at(159));
    assert_eq!(apply(&mut record.clone(), &Latest { generation: 1 }, at(159)), Newest::Superseded(Some("two".into())));
    present(&mut record, 2, at(160));
    assert_eq!(apply(&mut record, &Latest { generation: 1 }, at(161)), Newest::Replayed);
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
    assert_eq!(claim(&mut record, 1, at(20)), Claimed::Busy(Duration::ZERO));
    assert!(matches!(claim(&mut record, 1, at(30)), Claimed::Won { fence: 2, .. }));
    assert_eq!(commit(&mut record, 1, 1, "late"), Committed::Done);
    assert_eq!(commit(&mut record, 2, 1, "other"), Committed::Moved(Newest::Superseded(Some("late".into()))));
}

#[test]
fn what_was_got_without_spending_is_worth_nothing_once_somebody_else_could_spend() {
    let mut record = Record::default();
    let exchanged = |fence| Commit {
        fence,
        from: 1,
        unspent: true,
        body: b"exchanged".to_vec(),
        resident: false,
        keep_until: LIMIT,
    };
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(claim(&mut record, 1, at(20)), Claimed::Busy(Duration::ZERO));
    assert!(matches!(claim(&mut record, 1, at(30)), Claimed::Won { fence: 2, .. }));
    assert_eq!(apply(&mut record, &exchanged(1), at(31)), Committed::Moved(Newest::Current));
    assert_eq!(commit(&mut record, 2, 1, "rotated"), Committed::Done);

    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(apply(&mut record, &exchanged(1), at(1)), Committed::Done);
    assert_eq!(apply(&mut record, &exchanged(1), at(1)), Committed::Done, "it may be told twice");
}

#[test]
fn a_denial_is_no_failure_and_rests_nobody() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    let release = Release { fence: 1, outcome: Outcome::Denied, rest: Duration::ZERO };
    assert_eq!(apply(&mut record, &release, at(2)), Released { failures: 0, undetermined: 0, ended: false });
    assert_eq!(claim(&mut record, 1, at(2)), won(2));
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
    assert_eq!(end(&mut record, EndReason::Logout, 1), ended(1, None, true, false));
    let ending = ending(1, false);
    assert_eq!(commit(&mut record, 1, 1, "two"), Committed::Moved(Newest::Ended(ending)));
    assert_eq!(claim(&mut record, 1, at(99)), Claimed::Moved(Newest::Ended(ending)));
    assert_eq!(end(&mut record, EndReason::Idle, 1), Finished::Before(ending));
    assert_eq!(refuse(&mut record, 1), Newest::Ended(ending));
}

#[test]
fn a_refresh_that_fails_after_the_ending_is_told_so() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    assert_eq!(end(&mut record, EndReason::Logout, 1), ended(1, None, true, false));
    let release = Release { fence: 1, outcome: Outcome::NotSpent, rest: secs(1) };
    assert!(apply(&mut record, &release, at(10)).ended);
}

#[test]
fn ending_hands_out_the_newest_body_or_leaves_a_mark_to_revoke_it() {
    assert_eq!(end(&mut advanced(), EndReason::Logout, 1), ended(2, Some("two".into()), false, false));
    assert_eq!(end(&mut advanced(), EndReason::Logout, 2), ended(2, None, false, false));

    let mut settled = advanced();
    present(&mut settled, 2, at(0));
    present(&mut settled, 2, at(60));
    assert_eq!(end(&mut settled, EndReason::Logout, 1), ended(2, None, false, true));
    let newest = apply(&mut settled, &Latest { generation: 2 }, at(99));
    assert_eq!(newest, Newest::Ended(ending(2, true)));
    let take = |record: &mut Record, generation| apply(record, &TakeRevocation { generation }, at(99));
    assert_eq!(take(&mut settled, 1), Taken::No);
    assert_eq!(take(&mut settled, 2), Taken::Yes(None));
    assert_eq!(take(&mut settled, 2), Taken::No);
}

#[test]
fn an_ending_from_outside_leaves_the_newest_body_to_whoever_sees_a_cookie() {
    let from_outside = EndFromOutside { reason: EndReason::Administrator, keep_until: LIMIT };
    let take = |record: &mut Record, generation| apply(record, &TakeRevocation { generation }, at(99));
    let marked = |record: &mut Record| match apply(record, &from_outside, at(9)) {
        Finished::Now { ending, newer: None, in_flight } => (ending.newest, ending.revoke_on_sight, in_flight),
        other @ (Finished::Now { .. } | Finished::Before(_)) => panic!("{other:?}"),
    };
    // Of a session that was never refreshed the ledger knows nothing.
    let mut unknown = Record::default();
    assert_eq!(marked(&mut unknown), (0, true, false));
    assert!(matches!(apply(&mut unknown, &from_outside, at(9)), Finished::Before(_)));
    assert_eq!((take(&mut unknown, 1), take(&mut unknown, 1)), (Taken::Yes(None), Taken::No));

    // The browser shows an older cookie, and the newer body was never shown.
    let mut unsettled = advanced();
    assert_eq!(marked(&mut unsettled), (2, true, false));
    let lost = apply_to(Record::default(), &Reassert(unsettled.clone()));
    for mut record in [unsettled, lost] {
        assert_eq!(take(&mut record, 1), Taken::Yes(Some("two".into())));
        assert_eq!(take(&mut record, 2), Taken::No);
        // What another replica remembers brings neither back.
        assert_eq!(take(&mut apply_to(record, &Reassert(advanced())), 2), Taken::No);
    }

    // Whoever is refreshing revokes what that brings.
    let mut refreshing = Record::default();
    assert_eq!(claim(&mut refreshing, 1, at(0)), won(1));
    assert_eq!(marked(&mut refreshing), (1, false, true));
    assert_eq!(take(&mut refreshing, 1), Taken::No);
}

fn apply_to<O: Operation>(mut record: Record, operation: &O) -> Record {
    let _reply = apply(&mut record, operation, at(99));
    record
}

#[test]
fn a_verdict_on_a_superseded_token_ends_nothing() {
    let mut record = advanced();
    assert_eq!(refuse(&mut record, 1), Newest::Superseded(Some("two".into())));
    assert_eq!(apply(&mut record, &Latest { generation: 2 }, at(9)), Newest::Current);
    let Newest::Ended(ending) = refuse(&mut record, 2) else { panic!("not ended") };
    assert_eq!((ending.reason, ending.newest), (EndReason::Refused, 2));
}

/// A record whose body lies in the ledger from the login on.
fn resident() -> Record {
    let mut record = Record::default();
    apply(&mut record, &Deposit { generation: 1, body: "one".into(), keep_until: LIMIT }, at(0));
    record
}

#[test]
fn a_body_in_the_ledger_stays_until_the_session_ends() {
    let mut record = resident();
    assert_eq!(apply(&mut record, &Fetch, at(1)), Fetched::Body("one".into()));
    assert_eq!(claim(&mut record, 1, at(2)), won(1));
    assert_eq!(commit(&mut record, 1, 1, "two"), Committed::Done);
    present(&mut record, 2, at(3));
    present(&mut record, 2, at(63));
    // No generation of it is a replay: the cookie did not change.
    assert_eq!(apply(&mut record, &Latest { generation: 1 }, at(64)), Newest::Superseded(Some("two".into())));
    assert_eq!(apply(&mut record, &Fetch, at(64)), Fetched::Body("two".into()));
    assert_eq!(end(&mut record, EndReason::Logout, 1), ended(2, Some("two".into()), false, false));
    assert_eq!(apply(&mut record, &Fetch, at(65)), Fetched::Ended(ending(2, false)));
    assert_eq!(apply(&mut Record::default(), &Fetch, at(0)), Fetched::Missing);
}

#[test]
fn what_a_store_has_lost_is_written_down_again_and_undoes_nothing() {
    let reassert = |mut record: Record, known: &Record| {
        apply(&mut record, &Reassert(known.clone()), at(80));
        record
    };
    // Lost altogether, or back at an earlier state.
    for mut lost in [Record::default(), resident()] {
        lost = reassert(lost, &advanced());
        assert_eq!(apply(&mut lost, &Latest { generation: 1 }, at(81)), Newest::Superseded(Some("two".into())));
    }
    let mut over = advanced();
    assert_eq!(end(&mut over, EndReason::Logout, 2), ended(2, None, false, false));
    assert_eq!(
        apply(&mut reassert(advanced(), &over), &Latest { generation: 2 }, at(81)),
        Newest::Ended(ending(2, false))
    );
    // What has moved on since is not moved back.
    assert_eq!(reassert(over.clone(), &advanced()), over);
    let mut settled = advanced();
    present(&mut settled, 2, at(0));
    present(&mut settled, 2, at(60));
    assert_eq!(reassert(settled.clone(), &advanced()), settled);
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
    assert!(matches!(end(&mut record, EndReason::Idle, 2), Finished::Now { .. }));
    assert!(matches!(record.change_since(&before), Some(Change::Ended(_))));
}

#[test]
fn a_body_that_comes_after_its_cookie_has_raised_the_record_is_kept_for_older_cookies() {
    let mut record = Record::default();
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    // The commit could not be written, the cookie was handed out, and somebody refreshes it in turn.
    assert_eq!(claim(&mut record, 2, at(1)), won(2));
    assert_eq!(commit(&mut record, 1, 1, "two"), Committed::Done);
    assert_eq!(apply(&mut record, &Latest { generation: 1 }, at(2)), Newest::Superseded(Some("two".into())));
    // Another body of that generation is none too many: the first stays.
    assert_eq!(commit(&mut record, 9, 1, "other"), Committed::Moved(Newest::Superseded(Some("two".into()))));
    assert_eq!(commit(&mut record, 2, 2, "three"), Committed::Done);
}

#[test]
fn a_claim_that_is_quicker_than_its_commit_leaves_the_only_body_alone() {
    let mut record = Record::default();
    apply(&mut record, &Deposit { generation: 1, body: "one".into(), keep_until: LIMIT }, at(0));
    assert_eq!(claim(&mut record, 1, at(0)), won(1));
    // Its commit could not be written yet, and somebody has used up the token that it brought.
    assert_eq!(claim(&mut record, 2, at(1)), Claimed::Resting(secs(1)));
    assert_eq!(apply(&mut record, &Fetch, at(1)), Fetched::Body("one".into()));
    assert_eq!(commit(&mut record, 1, 1, "two"), Committed::Done);
    assert_eq!(claim(&mut record, 2, at(2)), won(2));
}
