//! Stories of one candidate; [`model`] tells all stories of several.

mod model;

use super::*;

fn terms() -> Terms {
    Terms::new(s(15), s(10), s(2)).unwrap()
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn wall(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn candidate() -> Candidate {
    Candidate::new("me".into(), terms())
}

fn held_by(holder: &str, renewed: i64, transitions: i32) -> Record {
    Record {
        holder: (!holder.is_empty()).then(|| holder.to_owned()),
        duration: Some(s(15)),
        acquired: Some(wall(0)),
        renewed: Some(wall(renewed)),
        transitions,
    }
}

/// Sees the Lease at this second, as an answer to a read.
fn reads(candidate: &mut Candidate, record: Option<Record>, at: u64) {
    candidate.reads(s(at));
    candidate.answered(Answer::Found(record.map(|record| (record, format!("v{at}")))), s(at));
}

/// Bids at one second, and is told at another one that the bid was taken.
fn bids(candidate: &mut Candidate, sent: u64, told: u64) -> Record {
    let (record, _) = candidate.bid(s(sent), wall(sent.cast_signed()));
    candidate.answered(Answer::Taken(format!("v{told}")), s(told));
    record
}

#[test]
fn where_there_is_no_lease_it_makes_one_and_leads() {
    let mut me = candidate();
    assert_eq!(me.step(s(100)), Step::Read);
    reads(&mut me, None, 100);
    assert_eq!(me.step(s(100)), Step::Bid);
    let (record, version) = me.bid(s(100), wall(100));
    assert_eq!((record.holder.as_deref(), record.transitions, version), (Some("me"), 0, None));
    me.answered(Answer::Taken("v1".into()), s(103));
    assert_eq!(me.leads_until(), Some(s(110)), "counted from before it was sent");
    assert_eq!(me.step(s(103)), Step::Bid, "the next renewal is due");
}

#[test]
fn a_foreign_lease_runs_out_by_our_clock_from_when_it_was_seen_to_change() {
    let mut me = candidate();
    // By its own times it ran out long ago, or will in years.
    for (at, renewed) in [(0, -100_000), (10, 100_000)] {
        reads(&mut me, Some(held_by("other", renewed, 1)), at);
        assert_eq!(me.step(s(at)), Step::Rest(s(at + 15)));
    }
    // Seen again, unchanged.
    me.watched(Some((held_by("other", 100_000, 1), "annotated".into())), s(20));
    assert_eq!(me.step(s(24)), Step::Rest(s(25)));
    assert_eq!(me.step(s(25)), Step::Bid);
    let (record, version) = me.bid(s(25), wall(25));
    assert_eq!((record.transitions, version.as_deref()), (2, Some("annotated")));
    assert_eq!(record.acquired, Some(wall(25)));
}

#[test]
fn the_others_duration_counts_not_ours() {
    let mut me = candidate();
    reads(&mut me, Some(Record { duration: Some(s(60)), ..held_by("other", 0, 0) }), 0);
    assert_eq!(me.step(s(59)), Step::Rest(s(60)));
}

#[test]
fn a_released_lease_is_taken_at_once_unless_it_is_older_than_what_was_seen() {
    let mut me = candidate();
    reads(&mut me, Some(held_by("other", 0, 3)), 0);
    me.watched(Some((held_by("", 1, 2), "restored".into())), s(1));
    assert_eq!(me.step(s(1)), Step::Rest(s(16)));
    let mut me = candidate();
    reads(&mut me, Some(held_by("other", 0, 3)), 0);
    me.watched(Some((held_by("", 1, 3), "released".into())), s(1));
    assert_eq!(me.step(s(1)), Step::Bid);
}

#[test]
fn a_lease_that_somebody_removed_is_waited_for_like_one_that_is_held() {
    let mut me = candidate();
    reads(&mut me, Some(held_by("other", 0, 3)), 0);
    me.watched(None, s(4));
    me.watched(None, s(9));
    assert_eq!(me.step(s(9)), Step::Rest(s(19)), "it may have been renewed unseen before");
    assert_eq!(me.step(s(19)), Step::Bid);
    assert_eq!(me.bid(s(19), wall(19)).1, None, "it is made anew");
}

#[test]
fn a_leader_renews_and_stands_down_by_the_deadline() {
    let mut me = candidate();
    reads(&mut me, None, 0);
    bids(&mut me, 0, 1);
    assert_eq!(me.step(s(1)), Step::Rest(s(2)));
    let record = bids(&mut me, 2, 2);
    assert_eq!((record.acquired, record.transitions), (Some(wall(0)), 0), "the same time of leading");
    assert_eq!(me.leads_until(), Some(s(12)));
    for sent in [4, 6, 8] {
        me.bid(s(sent), wall(0));
        me.answered(Answer::Failed, s(sent + 1));
        assert_eq!(me.step(s(sent + 1)), Step::Rest(s(sent + 2)));
        assert_eq!(me.leads_until(), Some(s(12)));
    }
    assert_eq!(me.step(s(12)), Step::StandDown);
    me.stands_down();
    assert_eq!(me.leads_until(), None);
    assert_eq!(me.step(s(12)), Step::Rest(s(17)), "another one may have begun by now, or begin");
}

#[test]
fn an_answer_after_the_deadline_prolongs_nothing() {
    let mut me = candidate();
    reads(&mut me, None, 0);
    bids(&mut me, 0, 0);
    bids(&mut me, 9, 11);
    assert_eq!(me.leads_until(), None);
    assert_eq!(me.step(s(11)), Step::Bid, "but its own Lease is there, and nobody else's: it begins anew");
    bids(&mut me, 11, 11);
    assert_eq!(me.leads_until(), Some(s(21)));
}

#[test]
fn a_lost_answer_is_found_out_by_reading() {
    let mut me = candidate();
    reads(&mut me, None, 0);
    let (record, _) = me.bid(s(0), wall(0));
    me.answered(Answer::Failed, s(1));
    assert_eq!(me.leads_until(), None);
    assert_eq!(me.step(s(2)), Step::Bid);
    me.bid(s(2), wall(2));
    me.answered(Answer::Refused, s(2));
    assert_eq!(me.step(s(2)), Step::Read);
    // It was the first bid that was taken, not the last: that may be long ago for all that is known.
    reads(&mut me, Some(record), 2);
    assert_eq!(me.step(s(2)), Step::Rest(s(17)));
    // The last one is known to be young.
    let mut me = candidate();
    reads(&mut me, None, 0);
    let (record, _) = me.bid(s(0), wall(0));
    me.answered(Answer::Failed, s(1));
    me.watched(Some((record, "v1".into())), s(1));
    assert_eq!(me.step(s(2)), Step::Bid);
}

#[test]
fn a_leader_that_reads_of_another_one_leads_no_more() {
    let mut me = candidate();
    reads(&mut me, None, 0);
    bids(&mut me, 0, 0);
    me.watched(Some((held_by("other", 0, 0), "of the past".into())), s(1));
    assert_eq!(me.leads_until(), Some(s(10)), "a watch may show the past");
    me.bid(s(2), wall(2));
    me.answered(Answer::Refused, s(2));
    reads(&mut me, Some(held_by("other", 2, 1)), 2);
    assert_eq!((me.leads_until(), me.other()), (None, Some("other")));
}

#[test]
fn a_release_lets_the_next_one_begin_at_once() {
    let mut me = candidate();
    assert_eq!(me.release(wall(0)), None, "who does not lead has nothing to release");
    reads(&mut me, None, 0);
    bids(&mut me, 0, 0);
    let (released, version) = me.release(wall(1)).unwrap();
    assert_eq!((released.holder.as_deref(), released.transitions, version.as_str()), (None, 0, "v0"));
    assert_eq!(me.leads_until(), None);
}

#[test]
fn a_duration_is_rounded_up_to_whole_seconds() {
    let short = Terms::new(Duration::from_millis(1500), s(1), Duration::from_millis(200)).unwrap();
    let mut me = Candidate::new("me".into(), short);
    reads(&mut me, None, 0);
    assert_eq!(bids(&mut me, 0, 0).duration, Some(s(2)));
}

#[test]
fn terms_that_do_not_fit_say_which_flag_and_what_to_do() {
    for (terms, words) in [
        ((10, 10, 2), "--lease-duration (10s) must be longer than --renew-deadline (10s)"),
        ((15, 2, 2), "--renew-deadline (2s) must be longer than --retry-period (2s)"),
    ] {
        let said = Terms::new(s(terms.0), s(terms.1), s(terms.2)).unwrap_err().to_string();
        assert!(said.contains(words) && said.contains("; raise --") && !said.contains("  "), "{said}");
    }
    assert_eq!(terms().write_limit(), s(5));
}
