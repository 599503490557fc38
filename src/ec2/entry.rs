//! What is known of one instance: its rows, its state, our last write, and how much may rest on them.

use jiff::{SignedDuration, Timestamp};

use crate::decide::{Association, AssociationState, Grade, Instance, InstanceState, Observed, Rows, View};
use crate::ids::AssociationId;

/// How long after a write with a known outcome a look may show the past.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(10);
/// The same where the outcome is not known.
pub const SETTLE_UNKNOWN: SignedDuration = SignedDuration::from_secs(30);
/// How old an instance's state may be when a write rests on it.
pub(crate) const FRESH: SignedDuration = SignedDuration::from_secs(5);

/// What is known of one instance.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) view: Option<View>,
    /// Its state and tags, and when they were looked at. Boxed, since they are known for moments only unless somebody waits.
    pub(crate) instance: Option<Box<(Instance, Timestamp)>>,
    pub(crate) write: Option<Box<LastWrite>>,
    /// When the newest write that is accounted for was begun or ended, whoever made it.
    pub(crate) accounted: Option<Timestamp>,
    /// Who waits for the instance: while anybody does, its state is looked at each pass.
    pub(crate) awaited_by: Vec<Box<str>>,
    /// No binding names it any more; it is kept until our last write has settled.
    pub(crate) unwanted: bool,
}

/// Our last write to an instance, until it has settled.
#[derive(Debug)]
pub(crate) struct LastWrite {
    /// The association ids known before it, where this process saw them: a row with another one is news.
    pub(crate) known: Option<Vec<AssociationId>>,
    /// Until when a look may show the past.
    pub(crate) settles: Timestamp,
    /// Whether the reply proved what is there now.
    pub(crate) proved: bool,
    /// The association that the reply told of as the live one: a look that shows it is no older than the reply.
    pub(crate) brought: Option<AssociationId>,
    /// Until when a write whose outcome is not known may yet take effect: this one, or one before it.
    pub(crate) in_doubt: Option<Timestamp>,
}

impl Entry {
    /// What is known now. A look at the instance from before `since` is none to write or to tell by: it was made on behalf
    /// of somebody else.
    pub(crate) fn observed(&self, now: Timestamp, since: Timestamp) -> Observed {
        let mut view = self.view.clone();
        if let (Some(view), Some(write)) = (&mut view, &self.write)
            && now >= write.settles
            && view.began < write.settles
        {
            // Settled by now, but not looked at since: worth no more than a listing.
            view.grade = Grade::Listing;
        }
        let seen = self.instance.as_deref().filter(|(_, at)| *at >= since);
        let fresh = |at: &Timestamp| now.duration_since(*at) <= FRESH;
        let instance = seen.filter(|(_, at)| fresh(at)).map(|(instance, _)| instance.clone());
        let seen = seen.map(|(instance, _)| instance.clone());
        Observed { view, instance, seen }
    }

    /// Nobody looked while no binding named it. What a write of ours left unsettled is still unsettled, and what its
    /// reply proved then may have changed since.
    pub(crate) fn wanted_again(&mut self) {
        self.unwanted = false;
        self.view = None;
        if let Some(write) = &mut self.write {
            (write.known, write.proved, write.brought) = (None, false, None);
        }
    }

    /// An instance that nobody waits for is not remembered for longer than a write may rest on the look.
    pub(crate) fn forget_instance(&mut self, now: Timestamp) {
        let old = |at: &Timestamp| now.duration_since(*at) > FRESH;
        if self.awaited_by.is_empty() && self.instance.as_deref().is_some_and(|(_, at)| old(at)) {
            self.instance = None;
        }
    }

    pub(crate) fn is_impossible(&self) -> bool {
        matches!(self.instance.as_deref(), Some((Instance::Impossible, _)))
    }

    /// An instance that was stopped runs: only from now on does `associating` for long mean something.
    pub(crate) fn starts_anew(&mut self, seen: &Instance, now: Timestamp) {
        let runs = matches!(seen, Instance::Present { state: InstanceState::Running, .. });
        if let (true, Some(_), Some(view)) = (runs, &self.instance, &mut self.view)
            && let Rows::One(row) | Rows::Leaving(row) | Rows::Replacing { arriving: row, .. } =
                &mut view.rows
        {
            row.since = now;
        }
    }

    /// A look that began earlier and ended later has nothing to say.
    fn has_seen_later_than(&self, began: Timestamp) -> bool {
        self.view.as_ref().is_some_and(|view| view.began > began)
    }

    pub(crate) fn ids(&self) -> Vec<AssociationId> {
        self.rows().map(|row| row.id.clone()).collect()
    }

    fn rows(&self) -> impl Iterator<Item = &Association> {
        let (one, other) = match self.view.as_ref().map(|v| &v.rows) {
            Some(Rows::One(row) | Rows::Leaving(row)) => (Some(row), None),
            Some(Rows::Replacing { leaving, arriving }) => (Some(&**leaving), Some(arriving)),
            Some(Rows::Bare | Rows::Unclear) | None => (None, None),
        };
        one.into_iter().chain(other)
    }

    /// Has a row that is known already share its names with what is kept of it.
    pub(crate) fn share_with(&self, row: &mut Association) {
        let Some(known) = self.rows().find(|known| known.id == row.id) else { return };
        row.id.clone_from(&known.id);
        if row.profile == known.profile {
            row.profile.clone_from(&known.profile);
        }
        if row.profile_id == known.profile_id {
            row.profile_id.clone_from(&known.profile_id);
        }
    }

    /// A look by instance id.
    pub(crate) fn looked_up(&mut self, rows: Vec<Option<Association>>, began: Timestamp) {
        if self.is_impossible() || self.has_seen_later_than(began) {
            return;
        }
        let Some(write) = self.write.as_ref().filter(|write| began < write.settles) else {
            self.write = None;
            self.set(sorted(rows), Grade::Settled, began);
            return;
        };
        let news = |row: &Option<Association>| {
            let unknown = |id| write.known.as_ref().is_some_and(|known| !known.contains(id));
            row.as_ref().is_some_and(|row| write.brought.as_ref() == Some(&row.id) || unknown(&row.id))
        };
        match (rows.iter().any(news), write.proved, write.known.is_some()) {
            (true, _, _) => self.set(sorted(rows), Grade::Settled, began),
            // The reply stands against an answer that may be from before it.
            (false, true, _) => {}
            (false, false, true) => self.grade(Grade::Unsettled),
            // Nothing is known of before, so all that is seen may be the past.
            (false, false, false) => self.set(sorted(rows), Grade::Unsettled, began),
        }
    }

    /// A shared listing: a row that is there is a fact, one that is missing or another one is only a hint.
    pub(crate) fn listed(&mut self, rows: Vec<Option<Association>>, began: Timestamp) {
        if self.is_impossible()
            || self.has_seen_later_than(began)
            || self.write.as_ref().is_some_and(|write| began < write.settles)
        {
            return;
        }
        let rows = sorted(rows);
        let same_ids = {
            let before = self.ids();
            let seen = Self {
                view: Some(View { rows: rows.clone(), grade: Grade::Listing, began, ended: began }),
                ..Self::default()
            }
            .ids();
            before == seen && !matches!(rows, Rows::Unclear)
        };
        match self.view.as_ref().map(|v| v.grade) {
            Some(grade) if same_ids && rows != Rows::Bare => self.set(rows, grade, began),
            Some(_) if same_ids => {}
            Some(_) | None => self.set(rows, Grade::Listing, began),
        }
    }

    fn set(&mut self, rows: Rows, grade: Grade, began: Timestamp) {
        let rows = self.keeping_since(rows);
        self.view = Some(View { rows, grade, began, ended: Timestamp::now() });
    }

    fn grade(&mut self, grade: Grade) {
        if let Some(view) = &mut self.view {
            view.grade = grade;
        }
    }

    /// A row that was seen in this state before keeps the time when that began.
    fn keeping_since(&self, mut rows: Rows) -> Rows {
        let keep = |row: &mut Association| {
            if let Some(same) = self.rows().find(|old| old.id == row.id && old.state == row.state) {
                row.since = same.since;
            }
        };
        match &mut rows {
            Rows::One(row) | Rows::Leaving(row) => keep(row),
            Rows::Replacing { leaving, arriving } => {
                keep(leaving);
                keep(arriving);
            }
            Rows::Bare | Rows::Unclear => {}
        }
        rows
    }

    /// The last write, if it has not settled.
    fn unsettled(&self, now: Timestamp) -> Option<&LastWrite> {
        self.write.as_deref().filter(|write| now < write.settles)
    }

    /// The ids that a look may show of the past: those known now, and those known before a write that has not settled.
    fn with_former(&self, mut ids: Vec<AssociationId>, now: Timestamp) -> Option<Vec<AssociationId>> {
        if let Some(write) = self.unsettled(now) {
            let former: Vec<_> =
                write.known.as_ref()?.iter().filter(|id| !ids.contains(id)).cloned().collect();
            ids.extend(former);
        }
        Some(ids)
    }

    pub(crate) fn wrote(&mut self, reply: Option<Association>, now: Timestamp) {
        let known = self.ids();
        let Some(reply) = reply else {
            self.unproved(Some(known), now, now + SETTLE);
            return;
        };
        let before = self.view.take().map(|v| v.rows);
        let rows = match (&reply.state, before) {
            (AssociationState::Disassociated, _) => Rows::Bare,
            (AssociationState::Disassociating, _) => Rows::Leaving(reply.clone()),
            (
                AssociationState::Associating | AssociationState::Associated,
                Some(Rows::One(old) | Rows::Replacing { arriving: old, .. }),
            ) if old.id != reply.id => Rows::Replacing {
                leaving: Box::new(Association { state: AssociationState::Disassociating, since: now, ..old }),
                arriving: reply.clone(),
            },
            _ => Rows::of([reply.clone()]),
        };
        let known = self.with_former(known, now).map(|mut known| {
            known.retain(|id| *id != reply.id || matches!(rows, Rows::Leaving(_) | Rows::Bare));
            known
        });
        let brought = rows.live().map(|row| row.id.clone());
        // A reply proves what is there, but not what a write before it may yet bring about.
        let in_doubt = self.write.as_ref().and_then(|write| write.in_doubt).filter(|until| now < *until);
        let grade = if in_doubt.is_some() { Grade::Unsettled } else { Grade::Settled };
        let settles = in_doubt.map_or(now + SETTLE, |until| until.max(now + SETTLE));
        self.view = Some(View { rows, grade, began: now, ended: now });
        self.accounted = Some(now);
        self.write = Some(Box::new(LastWrite { known, settles, proved: true, brought, in_doubt }));
    }

    pub(crate) fn unproved(&mut self, known: Option<Vec<AssociationId>>, at: Timestamp, settles: Timestamp) {
        let known = known.and_then(|ids| self.with_former(ids, at));
        let former = self.write.as_ref().map_or(settles, |write| write.settles);
        let settles = settles.max(former);
        self.accounted = Some(at);
        self.grade(Grade::Unsettled);
        self.write = Some(Box::new(LastWrite {
            known,
            settles,
            proved: false,
            brought: None,
            in_doubt: Some(settles),
        }));
    }
}

/// Sorts rows; one that cannot be read makes the whole unclear.
fn sorted(rows: Vec<Option<Association>>) -> Rows {
    match rows.into_iter().collect::<Option<Vec<_>>>() {
        Some(rows) => Rows::of(rows),
        None => Rows::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Tags;
    use crate::ids::ProfileArn;

    fn row(id: &str, profile: &str, state: AssociationState) -> Association {
        Association {
            id: AssociationId::parse(&format!("iip-assoc-{id}")).unwrap(),
            profile: ProfileArn::parse(&format!("arn:aws:iam::123456789012:instance-profile/{profile}"))
                .unwrap(),
            profile_id: None,
            state,
            since: at(0),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn associated(id: &str, profile: &str) -> Association {
        row(id, profile, AssociationState::Associated)
    }

    fn seen(entry: &Entry, second: i64) -> (Rows, Grade) {
        let view = entry.observed(at(second), at(0)).view.unwrap();
        (view.rows, view.grade)
    }

    #[test]
    fn absence_from_a_listing_is_only_a_hint() {
        let mut entry = Entry::default();
        entry.looked_up(vec![Some(associated("1", "App"))], at(0));
        entry.listed(vec![], at(60));
        assert_eq!(seen(&entry, 60), (Rows::Bare, Grade::Listing));
        entry.looked_up(vec![Some(associated("1", "App"))], at(61));
        assert_eq!(seen(&entry, 61), (Rows::One(associated("1", "App")), Grade::Settled));
    }

    #[test]
    fn a_known_row_in_a_listing_changes_its_state_but_not_its_worth() {
        let mut entry = Entry::default();
        entry.looked_up(vec![Some(row("1", "App", AssociationState::Associating))], at(0));
        entry.listed(vec![Some(associated("1", "App"))], at(60));
        assert_eq!(seen(&entry, 60), (Rows::One(associated("1", "App")), Grade::Settled));
    }

    #[test]
    fn the_reply_stands_against_looks_that_show_the_past() {
        let mut entry = Entry::default();
        entry.looked_up(vec![Some(associated("1", "Old"))], at(0));
        entry.wrote(Some(row("2", "App", AssociationState::Associating)), at(1));
        for lagging in [vec![], vec![Some(associated("1", "Old"))]] {
            entry.looked_up(lagging.clone(), at(3));
            entry.listed(lagging, at(3));
            let (rows, grade) = seen(&entry, 3);
            assert_eq!((rows.live().unwrap().id.as_str(), grade), ("iip-assoc-2", Grade::Settled));
        }
        entry.looked_up(vec![Some(associated("2", "App"))], at(4));
        assert_eq!(seen(&entry, 4).0, Rows::One(associated("2", "App")));
    }

    #[test]
    fn a_foreign_row_is_news_at_once_even_before_things_settle() {
        let mut entry = Entry::default();
        entry.looked_up(vec![Some(associated("1", "Old"))], at(0));
        entry.wrote(Some(row("2", "App", AssociationState::Associating)), at(1));
        entry.looked_up(vec![Some(associated("3", "Other"))], at(4));
        assert_eq!(seen(&entry, 4), (Rows::One(associated("3", "Other")), Grade::Settled));
    }

    #[test]
    fn after_a_lost_reply_only_news_or_time_settle_it() {
        let mut entry = Entry::default();
        entry.looked_up(vec![], at(0));
        let known = entry.ids();
        entry.unproved(Some(known), at(1), at(1) + SETTLE_UNKNOWN);
        entry.looked_up(vec![], at(5));
        assert_eq!(seen(&entry, 5), (Rows::Bare, Grade::Unsettled));
        assert_eq!(seen(&entry, 32).1, Grade::Listing, "settled by now, but not looked at since");
        entry.looked_up(vec![], at(32));
        assert_eq!(seen(&entry, 32), (Rows::Bare, Grade::Settled));
        entry.unproved(Some(vec![]), at(33), at(33) + SETTLE_UNKNOWN);
        entry.looked_up(vec![Some(associated("1", "App"))], at(34));
        assert_eq!(seen(&entry, 34), (Rows::One(associated("1", "App")), Grade::Settled));
    }

    /// Found by the model check: the second half of a swap made the row that the first half took off look new.
    #[test]
    fn what_was_known_before_a_write_that_has_not_settled_is_no_news_after_the_next() {
        let mut entry = Entry::default();
        entry.looked_up(vec![Some(associated("1", "Old"))], at(0));
        entry.wrote(Some(row("1", "Old", AssociationState::Disassociated)), at(1));
        entry.wrote(Some(row("2", "App", AssociationState::Associating)), at(2));
        entry.looked_up(vec![Some(associated("1", "Old"))], at(3));
        assert_eq!(seen(&entry, 3).0.live().unwrap().id.as_str(), "iip-assoc-2");
        entry.unproved(Some(entry.ids()), at(4), at(4) + SETTLE_UNKNOWN);
        entry.looked_up(vec![Some(associated("1", "Old"))], at(5));
        assert_eq!(seen(&entry, 5).1, Grade::Unsettled);
    }

    /// Found by the model check: a reply was taken for the last word while an older request was still under way.
    #[test]
    fn a_reply_settles_nothing_while_a_write_before_it_is_in_doubt() {
        let mut entry = Entry::default();
        entry.looked_up(vec![], at(0));
        entry.unproved(Some(entry.ids()), at(1), at(1) + SETTLE_UNKNOWN);
        entry.wrote(Some(row("1", "App", AssociationState::Associating)), at(3));
        entry.wrote(Some(row("1", "App", AssociationState::Disassociated)), at(5));
        assert_eq!(seen(&entry, 5), (Rows::Bare, Grade::Unsettled));
        entry.looked_up(vec![], at(30));
        assert_eq!(seen(&entry, 30).1, Grade::Unsettled);
        entry.looked_up(vec![], at(31));
        assert_eq!(seen(&entry, 31), (Rows::Bare, Grade::Settled));
        entry.wrote(Some(row("2", "App", AssociationState::Associating)), at(32));
        assert_eq!(seen(&entry, 32).1, Grade::Settled);
    }

    #[test]
    fn what_a_reply_brought_goes_on_though_nothing_is_known_of_before() {
        let mut entry = Entry::default();
        entry.looked_up(vec![], at(0));
        entry.unproved(None, at(1), at(1) + SETTLE_UNKNOWN);
        entry.wrote(Some(row("1", "App", AssociationState::Associating)), at(3));
        entry.looked_up(vec![Some(associated("0", "Old"))], at(4));
        assert_eq!(seen(&entry, 4).0.live().unwrap().id.as_str(), "iip-assoc-1", "that may be the past");
        entry.looked_up(vec![Some(associated("1", "App"))], at(5));
        assert_eq!(seen(&entry, 5).0, Rows::One(associated("1", "App")));
    }

    #[test]
    fn a_detach_on_a_stopped_instance_is_proved_by_its_reply() {
        let mut entry = Entry::default();
        entry.looked_up(vec![Some(associated("1", "Old"))], at(0));
        entry.wrote(Some(row("1", "Old", AssociationState::Disassociated)), at(1));
        entry.looked_up(vec![Some(associated("1", "Old"))], at(2));
        assert_eq!(seen(&entry, 2), (Rows::Bare, Grade::Settled));
    }

    #[test]
    fn instance_state_is_known_for_five_seconds() {
        let mut entry = Entry::default();
        let running = Instance::Present {
            state: crate::decide::InstanceState::Running,
            managed: false,
            tags: Tags::default(),
        };
        entry.instance = Some(Box::new((running.clone(), at(0))));
        assert_eq!(entry.observed(at(5), at(0)).instance, Some(running.clone()));
        assert_eq!(entry.observed(at(6), at(0)).instance, None);
        let later = entry.observed(at(5), at(1));
        assert_eq!((later.instance, later.seen), (None, None), "it was looked at for somebody else");
        assert_eq!(entry.observed(at(60), at(0)).seen, Some(running), "to tell by, not to write by");
    }

    #[test]
    fn what_was_known_while_somebody_looked_is_not_known_after_nobody_did() {
        let mut entry = Entry::default();
        entry.wrote(Some(associated("1", "App")), at(0));
        entry.wanted_again();
        entry.looked_up(vec![Some(associated("2", "Other"))], at(3));
        assert_eq!(seen(&entry, 3), (Rows::One(associated("2", "Other")), Grade::Unsettled));
    }
}
