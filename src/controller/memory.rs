//! What is remembered between passes and may be forgotten by a restart: failures, and when to look again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::gather::SKEW;
use super::outside::Outside;
use crate::decide::{
    Cadence, Grant, History, InstanceState, Outsiders, ProfileRef, Reason, Rows, Sighting, Trouble,
    TroubleKind,
};

/// How long a dry run that has passed is good for: a change may wait for its turn after it.
const REHEARSED: SignedDuration = SignedDuration::from_mins(1);

/// What a note is valid for: another spec or a new request ends every back-off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    pub uid: String,
    pub generation: Option<i64>,
    pub requested_at: Option<String>,
    pub deleted: bool,
    /// The grants that it acts by: a change of them ends every back-off as well.
    pub grants: Vec<Arc<Grant>>,
}

impl Version {
    /// Whether a person has edited the spec in between, or asked for a look.
    fn is_asked_otherwise(&self, now: &Self) -> bool {
        (self.generation, &self.requested_at) != (now.generation, &now.requested_at)
    }
}

#[derive(Debug, Default)]
struct Note {
    version: Version,
    /// When this note was opened.
    opened: Option<Timestamp>,
    since: Option<Timestamp>,
    trouble: Option<Trouble>,
    poll: Option<Poll>,
    /// A look that failed, and until when it is not made again.
    blind: Option<Blind>,
    failed_looks: u32,
    /// What became of the newest change, until status tells it.
    outcome: Option<(Timestamp, Outcome)>,
    drift_told: bool,
    /// Status shows drift that no Event has told yet.
    drift_owed: bool,
    errors: u32,
    /// What EC2 showed when a change was put off until its turn.
    put_off: Option<Box<Rows>>,
    /// When the first half of a swap was begun whose second has not come.
    halved: Option<Timestamp>,
    /// The profile for which a dry run has passed, and when.
    rehearsed: Option<(ProfileRef, Timestamp)>,
    /// The instance's state when it was last looked at: another one ends every back-off.
    state: Option<InstanceState>,
}

/// What became of a change whose intent stands in status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// EC2 did it; its request id.
    Completed(Option<String>),
    /// EC2 refused it.
    Withdrawn,
}

/// Looks that failed.
#[derive(Debug)]
struct Blind {
    kind: TroubleKind,
    /// When the first of them did.
    since: Timestamp,
    /// When to look again.
    until: Timestamp,
}

#[derive(Debug)]
struct Poll {
    reason: Reason,
    interval: Duration,
    due: Timestamp,
    /// Whether the look was made: what follows from it may have to wait, such as for its turn to be told.
    made: bool,
}

/// The notes of all bindings, by UID.
#[derive(Debug, Default)]
pub struct Memory {
    notes: Mutex<HashMap<String, Box<Note>>>,
    outside: Mutex<Outside>,
}

/// A table with room for so many times more than it holds is made smaller.
const SPARE: usize = 8;

impl Memory {
    /// Opens the note of a binding; a note on another version of it is void. `news` is whether status does not speak of this
    /// version yet.
    pub fn open(&self, version: &Version, news: bool, now: Timestamp) {
        let mut notes = self.notes();
        let note = notes.entry(version.uid.clone()).or_default();
        if note.version != *version {
            if note.version.uid == version.uid && note.version.is_asked_otherwise(version) {
                self.outside().wait_no_longer(&version.uid);
            }
            // What became of a change is true whatever the spec says now, and a look that failed before may be made again at
            // once, but has not succeeded.
            let (outcome, halved) = (note.outcome.take(), note.halved);
            let blind = note.blind.take().map(|blind| Blind { until: now, ..blind });
            let (opened, since) = (Some(now), news.then_some(now));
            let version = version.clone();
            **note = Note { version, opened, since, outcome, halved, blind, ..Note::default() };
        }
    }

    /// When this version of the binding was first seen since it was last at rest.
    pub fn opened(&self, uid: &str) -> Timestamp {
        self.notes().get(uid).and_then(|note| note.opened).unwrap_or(Timestamp::MIN)
    }

    /// When this version of the binding was first seen, once: for the time that it took to converge.
    pub fn take_since(&self, uid: &str) -> Option<Timestamp> {
        self.notes().get_mut(uid)?.since.take()
    }

    /// Another process may have written in between: nothing is left but what became of changes, which is true all the same.
    pub fn start_over(&self) {
        self.outside().start_over();
        self.notes().retain(|_, note| {
            let outcome = note.outcome.take();
            **note = Note { outcome, ..Note::default() };
            note.outcome.is_some()
        });
    }

    /// Forgets a binding that is gone.
    pub fn forget(&self, uid: &str) {
        self.outside().forget(uid);
        Self::remove(&mut self.notes(), uid);
    }

    /// After a start there is a note for each binding, and soon for hardly any.
    fn remove(notes: &mut HashMap<String, Box<Note>>, uid: &str) {
        notes.remove(uid);
        if notes.capacity() > SPARE * notes.len().max(SPARE) {
            notes.shrink_to_fit();
        }
    }

    /// The failure that has not healed yet.
    pub fn trouble(&self, uid: &str) -> Option<Trouble> {
        self.notes().get(uid)?.trouble.clone()
    }

    /// Notes a failure to attach this profile, or to detach; one after the other is left alone for longer, whatever their kinds.
    pub fn failed(&self, uid: &str, kind: TroubleKind, of: Option<&ProfileRef>, now: Timestamp) {
        let mut notes = self.notes();
        let note = notes.entry(uid.to_owned()).or_default();
        let before = note.trouble.take();
        let count = before.as_ref().map_or(0, |t| t.count).saturating_add(1);
        let same = before.filter(|t| std::mem::discriminant(&t.kind) == std::mem::discriminant(&kind));
        let retry_at = now + jittered(kind.hold_off(count), uid, count);
        let since = same.map_or(now, |t| t.since);
        note.trouble = Some(Trouble { kind, since, count, retry_at, last: now, of: of.cloned() });
    }

    /// The failure has healed.
    pub fn healed(&self, uid: &str) {
        if let Some(note) = self.notes().get_mut(uid) {
            note.trouble = None;
        }
    }

    /// The instance is as declared, seen so or by EC2's reply: what differs from now on was changed by others.
    pub fn as_declared(&self, uid: &str) {
        self.outside().as_declared(uid);
        if let Some(note) = self.notes().get_mut(uid) {
            (note.drift_told, note.drift_owed) = (false, false);
        }
    }

    /// What happens to the instance now is none of this binding's business.
    pub fn looks_away(&self, uid: &str) {
        self.outside().looks_away(uid);
    }

    /// Notes what somebody else brought about; whether that is news, and counts.
    pub fn sighted(&self, uid: &str, sighting: &Sighting, now: Timestamp) -> bool {
        self.outside().sighted(uid, sighting, now)
    }

    /// What others did to the instance lately.
    pub fn outsiders(&self, uid: &str) -> Outsiders {
        self.outside().of(uid)
    }

    /// Forgets what others did more than an hour ago.
    pub fn forget_old_outsiders(&self, now: Timestamp) {
        self.outside().forget_old(now);
    }

    /// Notes the state in which the instance was seen: what failed while it was in another one is tried again at once.
    pub fn instance_is(&self, uid: &str, state: &InstanceState) {
        let mut notes = self.notes();
        let Some(note) = notes.get_mut(uid) else { return };
        if note.state.replace(state.clone()).is_some_and(|before| before != *state) {
            (note.trouble, note.poll) = (None, None);
        }
    }

    /// All is well: most bindings are most of the time, and nothing is kept of them.
    pub fn at_rest(&self, uid: &str) {
        let mut notes = self.notes();
        if notes.get(uid).is_some_and(|note| note.outcome.is_none() && note.halved.is_none()) {
            Self::remove(&mut notes, uid);
        }
    }

    /// Notes that a look failed: it is left alone for longer from time to time.
    pub fn looked_in_vain(&self, uid: &str, kind: TroubleKind, now: Timestamp) {
        let mut notes = self.notes();
        let note = notes.entry(uid.to_owned()).or_default();
        note.failed_looks = note.failed_looks.saturating_add(1);
        let until = now + apart(kind.hold_off(note.failed_looks), uid, note.failed_looks);
        let since = note.blind.take().map_or(now, |blind| blind.since);
        note.blind = Some(Blind { kind, since, until });
    }

    /// Looks succeed again.
    pub fn looked(&self, uid: &str) {
        if let Some(note) = self.notes().get_mut(uid) {
            (note.blind, note.failed_looks) = (None, 0);
        }
    }

    /// Why a look is not made now, if one failed a moment ago.
    pub fn blind(&self, uid: &str, now: Timestamp) -> Option<TroubleKind> {
        self.notes()
            .get(uid)?
            .blind
            .as_ref()
            .filter(|blind| now < blind.until)
            .map(|blind| blind.kind.clone())
    }

    /// Whether all looks for so long have failed.
    pub fn blind_for(&self, uid: &str, time: SignedDuration, now: Timestamp) -> bool {
        let since = self.notes().get(uid).and_then(|note| Some(note.blind.as_ref()?.since));
        since.is_some_and(|since| now.duration_since(since) >= time)
    }

    /// Notes what became of the change that was begun at `at`: should status not take it, a later pass tells it.
    pub fn ended(&self, uid: &str, at: Timestamp, outcome: Outcome) {
        self.notes().entry(uid.to_owned()).or_default().outcome = Some((at, outcome));
    }

    /// What became of the newest change, if status does not tell it yet.
    pub fn outcome(&self, uid: &str) -> Option<(Timestamp, Outcome)> {
        self.notes().get(uid)?.outcome.clone()
    }

    /// Notes that the first half of a swap was made, or that there is none to be ended any more.
    pub fn halved(&self, uid: &str, begun: Option<Timestamp>) {
        self.notes().entry(uid.to_owned()).or_default().halved = begun;
    }

    /// What status remembers, without a swap under way that this process would have to know of since it leads: that was
    /// written by somebody who has no business to.
    pub fn believed(&self, uid: &str, mut history: History, began: Timestamp) -> History {
        let Some(at) = history.swapped_at().filter(|at| at.duration_since(began) > SKEW) else {
            return history;
        };
        if self.notes().get(uid).and_then(|note| note.halved) != Some(at) {
            history.changes.iter_mut().filter(|change| change.at == at).for_each(|change| change.then = None);
        }
        history
    }

    /// Notes that a dry run of attaching this profile has passed.
    pub fn rehearsed(&self, uid: &str, profile: &ProfileRef, now: Timestamp) {
        self.notes().entry(uid.to_owned()).or_default().rehearsed = Some((profile.clone(), now));
    }

    /// Whether one has passed a moment ago.
    pub fn has_rehearsed(&self, uid: &str, profile: &ProfileRef, now: Timestamp) -> bool {
        let notes = self.notes();
        let rehearsed = notes.get(uid).and_then(|note| note.rehearsed.as_ref());
        rehearsed.is_some_and(|(passed, at)| passed == profile && now.duration_since(*at) < REHEARSED)
    }

    /// Status tells it.
    pub fn outcome_told(&self, uid: &str) {
        if let Some(note) = self.notes().get_mut(uid) {
            note.outcome = None;
        }
    }

    /// Whether drift is news: once until the binding is well again, and not where status has it from before this process
    /// knew of it.
    pub fn drift_is_news(&self, uid: &str, in_status: bool) -> bool {
        let mut notes = self.notes();
        let note = notes.entry(uid.to_owned()).or_default();
        (!in_status || note.drift_owed) && !std::mem::replace(&mut note.drift_told, true)
    }

    /// Status is going to show drift whose Event waits until the repair begins.
    pub fn owe_drift(&self, uid: &str) {
        self.notes().entry(uid.to_owned()).or_default().drift_owed = true;
    }

    /// Notes what a change was decided by that waits for its turn.
    pub fn put_off(&self, uid: &str, seen: &Rows) {
        self.notes().entry(uid.to_owned()).or_default().put_off = Some(Box::new(seen.clone()));
    }

    /// Whether a change was put off, and nothing that it was decided by has changed since as far as is known.
    pub fn is_put_off(&self, uid: &str, seen: &Rows) -> bool {
        self.notes().get(uid).and_then(|note| note.put_off.as_deref()).is_some_and(|before| before == seen)
    }

    /// The reason for which this binding asked to be looked at again, if the time has come.
    pub fn due(&self, uid: &str, now: Timestamp) -> Option<Reason> {
        self.notes()
            .get(uid)?
            .poll
            .as_ref()
            .filter(|poll| now >= poll.due && !poll.made)
            .map(|poll| poll.reason)
    }

    /// The look was made for which the time had come then.
    pub fn look_made(&self, uid: &str, then: Timestamp) {
        let mut notes = self.notes();
        if let Some(poll) =
            notes.get_mut(uid).and_then(|note| note.poll.as_mut()).filter(|poll| then >= poll.due)
        {
            poll.made = true;
        }
    }

    /// When to look again while `reason` holds: the interval doubles from look to look, not from pass to pass.
    /// `at_latest` draws the next look nearer. Looks fall on the `grid`, so that those of many bindings share calls.
    pub fn next_look(
        &self,
        uid: &str,
        reason: Reason,
        at_latest: Option<Timestamp>,
        grid: Duration,
        now: Timestamp,
    ) -> Option<Duration> {
        let mut notes = self.notes();
        // What is past draws nothing nearer: a pass would follow the other without a pause.
        let at_latest = at_latest.filter(|at| *at > now).map(|at| on_grid(at, grid));
        let Cadence::Poll { first, most } = reason.cadence() else {
            if let Some(note) = notes.get_mut(uid) {
                note.poll = None;
            }
            return at_latest.map(|at| until(at, now));
        };
        let note = notes.entry(uid.to_owned()).or_default();
        let interval = match &note.poll {
            Some(poll) if poll.reason == reason && now < poll.due => {
                return Some(until(poll.due.min(at_latest.unwrap_or(poll.due)), now));
            }
            Some(poll) if poll.reason == reason => poll.interval.saturating_mul(2).min(most),
            Some(_) | None => first,
        };
        let wait = SignedDuration::try_from(interval).unwrap_or(SignedDuration::from_mins(1));
        let mut due = match reason {
            // What failed in one call is not tried again in one call.
            Reason::AWSUnavailable | Reason::CredentialsUnavailable => {
                now + apart(wait, uid, u32::try_from(interval.as_secs()).unwrap_or_default())
            }
            _ => on_grid(now + jittered(wait, uid, 0), grid),
        };
        if let Some(at) = at_latest {
            due = due.min(at);
        }
        note.poll = Some(Poll { reason, interval, due, made: false });
        Some(until(due, now))
    }

    /// How long until the one look at this time, with those of others.
    pub fn look_once(
        &self,
        uid: &str,
        reason: Reason,
        at: Timestamp,
        grid: Duration,
        now: Timestamp,
    ) -> Duration {
        let (due, interval) = (on_grid(at, grid), grid);
        self.notes().entry(uid.to_owned()).or_default().poll =
            Some(Poll { reason, interval, due, made: false });
        until(due, now)
    }

    /// How long to wait after a pass that could not be finished, such as for an API server that is away.
    pub fn after_error(&self, uid: &str) -> Duration {
        let mut notes = self.notes();
        let note = notes.entry(uid.to_owned()).or_default();
        note.errors = note.errors.saturating_add(1);
        Duration::from_millis(500).saturating_mul(1_u32 << note.errors.min(6)).min(Duration::from_secs(30))
    }

    /// A pass was finished.
    pub fn went_well(&self, uid: &str) {
        if let Some(note) = self.notes().get_mut(uid) {
            note.errors = 0;
        }
    }

    fn notes(&self) -> MutexGuard<'_, HashMap<String, Box<Note>>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outside(&self) -> MutexGuard<'_, Outside> {
        self.outside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(50))
}

/// The next time on the grid: looks that come due together share a call.
fn on_grid(at: Timestamp, grid: Duration) -> Timestamp {
    let grid = i64::try_from(grid.as_millis()).unwrap_or(1).max(1);
    let rest = at.as_millisecond().rem_euclid(grid);
    if rest == 0 { at } else { at + SignedDuration::from_millis(grid - rest) }
}

/// Up to as long again, by UID and count.
fn apart(time: SignedDuration, uid: &str, count: u32) -> SignedDuration {
    time + jittered(time, uid, count).saturating_sub(time).saturating_mul(9)
}

/// Up to a tenth more, by the UID, so that what failed together does not come back together.
fn jittered(time: SignedDuration, uid: &str, count: u32) -> SignedDuration {
    let hash = uid.bytes().fold(u64::from(count) + 17, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let percent = i32::try_from(hash % 11).unwrap_or(0);
    time.saturating_add(time.checked_div(100).unwrap_or_default().saturating_mul(percent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::binding::Operation;
    use crate::decide::{Carried, PastChange};

    const GRID: Duration = Duration::from_millis(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn grant(name: &str) -> Arc<Grant> {
        let spec = serde_json::json!({
            "namespaces": {"names": ["a"]}, "instanceProfiles": ["app"], "instances": {"regions": ["eu-west-1"]},
        });
        Arc::new(Grant::parse(name, &serde_json::from_value(spec).unwrap()).unwrap())
    }

    fn version(generation: i64) -> Version {
        Version { uid: "u".into(), generation: Some(generation), ..Version::default() }
    }

    #[test]
    fn failures_are_left_alone_longer_and_an_edit_ends_that() {
        let memory = Memory::default();
        memory.open(&version(1), true, at(0));
        memory.failed("u", TroubleKind::Denied("a".into()), None, at(0));
        memory.failed("u", TroubleKind::Denied("b".into()), None, at(20));
        let trouble = memory.trouble("u").unwrap();
        assert_eq!((trouble.count, trouble.since), (2, at(0)));
        assert!(trouble.retry_at >= at(50));
        memory.failed("u", TroubleKind::Overtaken, None, at(60));
        let trouble = memory.trouble("u").unwrap();
        assert_eq!((trouble.count, trouble.since), (3, at(60)));
        memory.open(&version(2), true, at(61));
        assert_eq!(memory.trouble("u"), None);
    }

    #[test]
    fn an_edit_makes_nobody_see_who_could_not_look_before() {
        let memory = Memory::default();
        memory.open(&version(1), true, at(0));
        memory.looked_in_vain("u", TroubleKind::Unavailable("away".into()), at(0));
        memory.open(&version(2), true, at(25));
        assert_eq!(memory.blind("u", at(25)), None, "it looks again at once");
        assert!(memory.blind_for("u", SignedDuration::from_secs(30), at(31)));
        memory.looked("u");
        assert!(!memory.blind_for("u", SignedDuration::from_secs(30), at(99)));
    }

    #[test]
    fn a_swap_that_this_process_did_not_begin_since_it_leads_is_none() {
        let memory = Memory::default();
        let old = ProfileRef::parse("arn:aws:iam::123456789012:instance-profile/Old").unwrap();
        let told = |begun| {
            let change = PastChange {
                operation: Operation::DisassociateIamInstanceProfile,
                from: Carried::Profile(old.clone()),
                to: Carried::Nothing,
                then: Some(old.clone()),
                at: begun,
                confirmed: true,
            };
            History { changes: vec![change], ..History::default() }
        };
        let believed = |begun| memory.believed("u", told(begun), at(0)).swapped_out().is_some();
        assert!(believed(at(-60)) && believed(at(3)), "by whoever led before, whose clock may be ahead");
        assert!(!believed(at(60)));
        memory.halved("u", Some(at(60)));
        memory.open(&version(2), true, at(61));
        memory.at_rest("u");
        assert!(believed(at(60)) && !believed(at(61)), "whatever was edited meanwhile");
        memory.halved("u", None);
        assert!(!believed(at(60)));
    }

    #[test]
    fn whatever_changes_the_matter_ends_every_back_off() {
        let before = Version { grants: vec![grant("one")], ..version(1) };
        type Change = fn(&mut Version);
        let of_the_binding: [(&str, Change); 3] = [
            ("another spec", |version| version.generation = Some(2)),
            ("a request", |version| version.requested_at = Some("now".into())),
            ("a deletion", |version| version.deleted = true),
        ];
        let mut changes: Vec<(&str, Version)> = Vec::new();
        for (story, change) in of_the_binding {
            let mut after = before.clone();
            change(&mut after);
            changes.push((story, after));
        }
        // A namespace's labels count by the grants that they bring or take.
        changes.push(("another grant", Version { grants: vec![grant("two")], ..before.clone() }));
        changes
            .push(("one grant more", Version { grants: vec![grant("one"), grant("two")], ..before.clone() }));
        for (story, after) in changes {
            let memory = Memory::default();
            memory.open(&before, true, at(0));
            memory.failed("u", TroubleKind::Denied("a".into()), None, at(0));
            memory.next_look("u", Reason::AccessDenied, None, GRID, at(0));
            memory.open(&before, false, at(1));
            assert!(memory.trouble("u").is_some());
            memory.open(&after, true, at(2));
            assert_eq!((memory.trouble("u"), memory.due("u", at(9_999))), (None, None), "{story}");
        }
    }

    #[test]
    fn another_state_of_the_instance_ends_every_back_off() {
        let memory = Memory::default();
        memory.open(&version(1), true, at(0));
        memory.instance_is("u", &InstanceState::Running);
        memory.failed("u", TroubleKind::Unchanged, None, at(0));
        memory.instance_is("u", &InstanceState::Running);
        assert!(memory.trouble("u").is_some());
        memory.instance_is("u", &InstanceState::Stopped);
        assert_eq!(memory.trouble("u"), None);
    }

    #[test]
    fn retries_of_what_needs_a_person_begin_at_fifteen_seconds_and_end_at_thirty_minutes() {
        let memory = Memory::default();
        memory.open(&version(1), true, at(0));
        let (mut now, mut waits) = (at(0), Vec::new());
        for _ in 0..12 {
            let wait = memory.next_look("u", Reason::NotAdopted, None, GRID, now).unwrap();
            waits.push(wait.as_secs_f64());
            now += SignedDuration::try_from(wait).unwrap();
        }
        for (n, wait) in waits.iter().enumerate() {
            let least = f64::min(15.0 * f64::from(1_u32 << n), 1800.0);
            assert!((least..=least * 1.11).contains(wait), "{waits:?}");
        }
    }

    #[test]
    fn a_request_ends_the_wait_of_a_contended_repair_and_a_grant_does_not() {
        let memory = Memory::default();
        let asked = |text: &str| Version { requested_at: Some(text.into()), ..version(1) };
        memory.open(&version(1), true, at(0));
        memory.as_declared("u");
        for n in 0..4 {
            let association = Some(crate::ids::AssociationId::parse(&format!("iip-assoc-{n}")).unwrap());
            let found = Sighting { association, found: crate::decide::Carried::Nothing, late: false };
            assert!(memory.sighted("u", &found, at(n)));
        }
        let waits = || memory.outsiders("u").contention(at(4)).unwrap().due.is_some();
        memory.open(&Version { grants: vec![grant("one")], ..version(1) }, false, at(4));
        assert!(waits());
        memory.open(&asked("now"), false, at(4));
        assert!(!waits());
        memory.at_rest("u");
        assert!(memory.outsiders("u").contention(at(5)).is_some(), "it is remembered while all is well");
    }

    #[test]
    fn drift_is_told_once_also_where_status_shows_it_before_the_repair_begins() {
        let memory = Memory::default();
        memory.open(&version(1), true, at(0));
        assert!(!memory.drift_is_news("u", true), "told by whoever was before us");
        memory.owe_drift("u");
        assert!(memory.drift_is_news("u", true) && !memory.drift_is_news("u", true));
        memory.as_declared("u");
        assert!(!memory.drift_is_news("u", true) && memory.drift_is_news("u", false));
    }

    #[test]
    fn a_look_that_was_made_is_not_due_again_though_what_it_showed_cannot_be_told_yet() {
        let memory = Memory::default();
        memory.open(&version(1), true, at(0));
        memory.next_look("u", Reason::Associating, None, GRID, at(0));
        memory.look_made("u", at(0));
        assert_eq!(memory.due("u", at(2)), Some(Reason::Associating), "it was another look");
        memory.look_made("u", at(2));
        assert_eq!(memory.due("u", at(3)), None);
        let wait = memory.next_look("u", Reason::Associating, None, GRID, at(3)).unwrap();
        assert!(wait >= Duration::from_secs(2), "it doubles all the same");
        assert_eq!(memory.due("u", at(9)), Some(Reason::Associating));
    }

    #[test]
    fn among_many_the_one_look_is_due_when_all_has_settled() {
        let memory = Memory::default();
        memory.open(&version(1), true, at(0));
        let wait = memory.look_once("u", Reason::Associating, at(10), Duration::from_secs(4), at(0));
        assert_eq!(wait, Duration::from_secs(12));
        assert_eq!(memory.due("u", at(11)), None);
        assert_eq!(memory.due("u", at(12)), Some(Reason::Associating));
    }

    #[test]
    fn the_interval_doubles_from_look_to_look_not_from_pass_to_pass() {
        let memory = Memory::default();
        memory.open(&version(1), true, at(0));
        let first = memory.next_look("u", Reason::Associating, None, GRID, at(0)).unwrap();
        assert!(first >= Duration::from_secs(1) && first <= Duration::from_millis(1100));
        assert!(memory.next_look("u", Reason::Associating, None, GRID, at(0)).unwrap() <= first);
        assert_eq!((memory.due("u", at(0)), memory.due("u", at(2))), (None, Some(Reason::Associating)));
        assert!(
            memory.next_look("u", Reason::Associating, None, GRID, at(2)).unwrap() >= Duration::from_secs(2)
        );
        assert_eq!(memory.next_look("u", Reason::Associated, None, GRID, at(3)), None);
        assert_eq!(memory.due("u", at(100)), None);
        let slowly = memory.next_look("u", Reason::InstanceTerminated, Some(at(50)), GRID, at(100)).unwrap();
        assert!(slowly >= Duration::from_secs(15), "a time that is past draws nothing nearer");
    }

    #[test]
    fn a_change_stays_put_off_until_something_that_it_was_decided_by_changes() {
        let memory = Memory::default();
        memory.open(&version(1), true, at(0));
        assert!(!memory.is_put_off("u", &Rows::Bare));
        memory.put_off("u", &Rows::Bare);
        assert!(memory.is_put_off("u", &Rows::Bare) && !memory.is_put_off("u", &Rows::Unclear));
        memory.open(&version(2), true, at(1));
        assert!(!memory.is_put_off("u", &Rows::Bare), "an edit is decided at once");
    }

    #[test]
    fn looks_that_come_due_about_the_same_time_come_due_together() {
        let memory = Memory::default();
        let grid = Duration::from_secs(2);
        for uid in ["a", "b", "c"] {
            memory.open(&Version { uid: uid.into(), ..version(1) }, true, at(0));
            let wait = memory.next_look(uid, Reason::Associating, None, grid, at(0)).unwrap();
            assert_eq!(wait, grid);
        }
    }
}
