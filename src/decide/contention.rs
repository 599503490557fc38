//! Others who keep changing an instance: a tool on a schedule, say, that is meant to put another profile there.
//!
//! Drift is mended at once. From the fourth change of others within an hour on, a repair waits: two controllers that
//! undo each other do the workload no good, and use up the account's calls. The wait doubles with each further change;
//! an hour without one ends it, and a person who edits the spec or asks for a look is not kept waiting.
//!
//! The rule is a function of what others did and of the time. What they did is remembered by the controller, and may be
//! forgotten.

use jiff::{SignedDuration, Timestamp};

use super::{Carried, Case, Cause, Decision, Desired, History, Observed, PastChange, Reason, Rows, Step};
use crate::ids::AssociationId;

/// So many changes of others …
pub const MANY: usize = 4;
/// … within this time are contention, and so long without one ends it.
pub const QUIET: SignedDuration = SignedDuration::from_hours(1);
/// How long the first repair waits.
pub const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(30);
/// How long a repair waits at most.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(10);
/// So long after it was begun a change of unknown outcome may still come: longer than any request lives.
const ASTRAY: SignedDuration = SignedDuration::from_mins(1);
/// With so many the wait is the longest; more are not remembered.
const KEPT: usize = 9;

/// One change of an instance that nobody here asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutsideChange {
    /// When it was found.
    pub at: Timestamp,
    /// What the instance carried then.
    pub found: Carried,
}

/// What others did to one instance lately.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outsiders {
    changes: Vec<OutsideChange>,
    /// A person asked for the repair since the newest change.
    asked: bool,
}

/// Others keep changing the instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contention {
    /// What they did: the first changes that made it contention, and the newest.
    pub changes: Vec<OutsideChange>,
    /// When the repair of the newest change is due; none: at once, as a person asked.
    pub due: Option<Timestamp>,
    /// When it ends, if nobody else changes the instance before.
    pub ends: Timestamp,
}

impl Outsiders {
    /// Notes a change.
    pub fn note(&mut self, change: OutsideChange) {
        if self.is_over(change.at) {
            self.changes.clear();
        }
        self.asked = false;
        self.changes.push(change);
        self.changes.sort_by_key(|change| change.at);
        if !self.is_contention() {
            // These can be among four within an hour no more.
            let newest = self.last().unwrap_or(Timestamp::MIN);
            self.changes.retain(|change| newest.duration_since(change.at) < QUIET);
        } else if self.changes.len() > KEPT {
            // The first ones stay, since they are why it is contention.
            self.changes.remove(MANY);
        }
    }

    /// A person edited the spec or asked for a look: the repair of what was found until now waits no longer.
    pub fn wait_no_longer(&mut self) {
        self.asked = true;
    }

    /// Whether nobody else has changed the instance for an hour.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.last().is_none_or(|last| now.duration_since(last) >= QUIET)
    }

    /// Whether others keep changing the instance.
    pub fn contention(&self, now: Timestamp) -> Option<Contention> {
        let last = self.last().filter(|_| self.is_contention() && !self.is_over(now))?;
        let due = last + wait(self.changes.len());
        let due = (!self.asked).then_some(due);
        Some(Contention { changes: self.changes.clone(), due, ends: last + QUIET })
    }

    fn last(&self) -> Option<Timestamp> {
        self.changes.last().map(|change| change.at)
    }

    fn is_contention(&self) -> bool {
        self.changes.windows(MANY).any(|some| match some {
            [first, .., last] => last.at.duration_since(first.at) < QUIET,
            _ => false,
        })
    }
}

/// How long a repair waits after so many changes of others.
fn wait(changes: usize) -> SignedDuration {
    let doublings = u32::try_from(changes.saturating_sub(MANY)).unwrap_or(u32::MAX).min(16);
    FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
}

impl Contention {
    /// What is told in the condition. It stays the same until others change the instance once more.
    pub fn message(&self) -> String {
        let last = self.changes.last().map(|change| clock(change.at)).unwrap_or_default();
        format!(
            "others keep changing the profile of this instance, the last time at {last}: CloudTrail tells who; often it is an SSM association that runs AWS-AttachIAMToInstance"
        )
    }

    /// What was found when, for the Event.
    pub fn story(&self) -> String {
        let told: Vec<String> =
            self.changes.iter().map(|c| format!("{} at {}", c.found.as_str(), clock(c.at))).collect();
        told.join(", ")
    }
}

/// A time for people, to the second.
pub fn clock(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A difference that somebody else brought about, and that this binding mends: the association found (none: the instance
/// carries nothing) and what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Which one it is.
    pub association: Option<AssociationId>,
    /// What is there.
    pub found: Carried,
    /// Whether it carries what was last asked for, or what a change of unknown outcome was to bring a moment ago: then it may
    /// be a change of ours that came late.
    pub late: bool,
}

/// What a decision says of others. A profile that was made again under its name is a change of IAM, not of the instance.
pub fn sighting(
    decision: &Decision,
    desired: &Desired,
    history: &History,
    observed: &Observed,
    now: Timestamp,
) -> Option<Sighting> {
    let drift = matches!(decision.plan.first(), Some((_, Cause::DriftDetected)));
    let view = observed.view.as_ref().filter(|_| drift && desired.writes())?;
    let row = match &view.rows {
        Rows::Unclear => return None,
        rows => rows.live(),
    };
    let found =
        row.map_or(Carried::Nothing, |row| Carried::Profile(super::ProfileRef::Arn(row.profile.clone())));
    let astray = |change: &PastChange| !change.confirmed && now.duration_since(change.at) < ASTRAY;
    let asked = history.changes.iter().enumerate().filter(|(n, change)| *n == 0 || astray(change));
    let late = asked.map(|(_, change)| &change.to).any(|to| match (row, to) {
        (Some(row), Carried::Profile(profile)) => profile.is_carried_by(row),
        (None, Carried::Nothing) => true,
        (Some(_), Carried::Nothing) | (None, Carried::Profile(_)) => false,
    });
    Some(Sighting { association: row.map(|row| row.id.clone()), found, late })
}

/// Puts a wait before the repair of drift where others would undo it at once. What a person declared, a deletion and the
/// second half of a swap never wait.
pub(super) fn temper(case: &Case<'_>, decision: Decision, now: Timestamp) -> Decision {
    let repairs = matches!(decision.step, Step::Write(_)) && is_repair(&decision);
    if !repairs || case.history.swapped_out().is_some() {
        return decision;
    }
    let due = case.restraint.outsiders.contention(now).and_then(|contention| contention.due);
    match due {
        Some(due) if now < due => Decision {
            step: Step::Wait,
            reason: Reason::OutsideWriter,
            message: format!(
                "{} waits until {}, since others keep changing the profile of this instance; an edit of the spec, or the annotation {}, ends the wait",
                decision.message,
                clock(due),
                crate::api::REQUESTED_AT
            ),
            ..decision
        },
        Some(_) | None => decision,
    }
}

/// Whether what is planned mends what somebody else changed.
fn is_repair(decision: &Decision) -> bool {
    matches!(decision.plan.first(), Some((_, Cause::DriftDetected)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + 60 * minute).unwrap()
    }

    fn change(at: Timestamp) -> OutsideChange {
        OutsideChange { at, found: Carried::Nothing }
    }

    fn after(minutes: &[i64]) -> Outsiders {
        let mut outsiders = Outsiders::default();
        minutes.iter().for_each(|minute| outsiders.note(change(at(*minute))));
        outsiders
    }

    /// How many seconds the repair waits after the last of these.
    fn waits(minutes: &[i64]) -> Option<i64> {
        let last = at(*minutes.iter().max().unwrap());
        let contention = after(minutes).contention(last)?;
        contention.due.map(|due| due.duration_since(last).as_secs())
    }

    #[test]
    fn from_the_fourth_change_within_an_hour_on_a_repair_waits_and_longer_each_time() {
        for (story, minutes, wait) in [
            ("three are none", &[0, 1, 2][..], None),
            ("four", &[0, 1, 2, 3], Some(30)),
            ("five", &[0, 1, 2, 3, 4], Some(60)),
            ("six", &[0, 1, 2, 3, 4, 5], Some(120)),
            ("nine", &[0, 1, 2, 3, 4, 5, 6, 7, 8], Some(600)),
            ("many more", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], Some(600)),
            ("four in just under an hour", &[0, 20, 40, 59], Some(30)),
            ("four in an hour and more", &[0, 20, 40, 60], None),
            ("… of which the later ones are four", &[0, 20, 40, 60, 61], Some(30)),
            ("once it has begun, any within the hour goes on with it", &[0, 1, 2, 3, 50, 105], Some(120)),
            ("after an hour of quiet it begins anew", &[0, 1, 2, 3, 63, 64, 65], None),
        ] {
            assert_eq!(waits(minutes), wait, "{story}");
        }
    }

    #[test]
    fn an_hour_without_a_change_ends_it() {
        let outsiders = after(&[0, 1, 2, 3]);
        assert_eq!(outsiders.contention(at(3)).unwrap().ends, at(63));
        assert!(outsiders.contention(at(62)).is_some());
        assert!(outsiders.contention(at(63)).is_none() && outsiders.is_over(at(63)));
    }

    #[test]
    fn a_person_is_not_kept_waiting_and_the_next_change_of_others_is() {
        let mut outsiders = after(&[0, 1, 2, 3]);
        outsiders.wait_no_longer();
        assert_eq!(outsiders.contention(at(3)).unwrap().due, None);
        outsiders.note(change(at(4)));
        assert_eq!(outsiders.contention(at(4)).unwrap().due, Some(at(5)));
    }

    #[test]
    fn what_is_told_stays_the_same_while_nobody_changes_anything() {
        let outsiders = after(&[0, 1, 2, 3]);
        let told = |minute| outsiders.contention(at(minute)).map(|c| (c.message(), c.story()));
        assert_eq!(told(3), told(40));
        assert_ne!(told(3), None);
    }

    fn any_minutes() -> impl Strategy<Value = Vec<i64>> {
        proptest::collection::vec(0_i64..200, 1..40)
    }

    proptest! {
        #[test]
        fn a_wait_is_never_longer_than_the_longest_and_quiet_always_ends_it(minutes in any_minutes()) {
            let mut minutes = minutes;
            minutes.sort_unstable();
            let (outsiders, last) = (after(&minutes), at(*minutes.last().unwrap()));
            prop_assert!(outsiders.changes.len() <= KEPT);
            if let Some(contention) = outsiders.contention(last) {
                let wait = contention.due.unwrap().duration_since(last);
                prop_assert!(wait >= FIRST_WAIT && wait <= LONGEST_WAIT);
            }
            prop_assert_eq!(outsiders.contention(last + QUIET), None);
        }

        #[test]
        fn more_changes_never_make_the_wait_shorter(minutes in any_minutes()) {
            let mut minutes = minutes;
            minutes.sort_unstable();
            let (whole, last) = (after(&minutes), at(*minutes.last().unwrap()));
            let mut more = whole.clone();
            more.note(change(last + SignedDuration::from_secs(1)));
            let wait = |outsiders: &Outsiders| {
                let last = outsiders.last().unwrap();
                outsiders.contention(last).and_then(|c| c.due).map(|due| due.duration_since(last))
            };
            prop_assert!(wait(&more) >= wait(&whole));
        }

        /// Four that are within an hour are contention whatever came before, and in whatever order they are told.
        #[test]
        fn the_order_in_which_changes_are_told_is_irrelevant(
            minutes in proptest::collection::vec(0_i64..59, 1..=KEPT), turns in 0_usize..9,
        ) {
            let mut turned = minutes.clone();
            turned.rotate_left(turns % minutes.len());
            let last = at(*minutes.iter().max().unwrap());
            prop_assert_eq!(after(&minutes).contention(last), after(&turned).contention(last));
        }

        /// A second reading of the rule: walk through all changes, and keep them all.
        #[test]
        fn what_is_forgotten_makes_no_difference(minutes in any_minutes()) {
            let mut minutes = minutes;
            minutes.sort_unstable();
            let (mut count, mut before): (usize, Vec<i64>) = (0, vec![]);
            for now in &minutes {
                if before.last().is_some_and(|last| now - last >= 60) {
                    (count, before) = (0, vec![]);
                }
                before.push(*now);
                let recent = before.iter().filter(|then| now - **then < 60).count();
                count = if count > 0 { count + 1 } else if recent >= MANY { MANY } else { 0 };
            }
            let expected = (count > 0).then(|| (30 << (count - MANY).min(5)).min(600));
            prop_assert_eq!(waits(&minutes), expected);
        }
    }
}
