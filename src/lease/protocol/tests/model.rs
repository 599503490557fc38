//! All stories of several candidates, a server that keeps one Lease, a network that delays and loses, and clocks that do
//! not run alike: every interleaving, without an end in time. Who is not told to go on is stopped, so that a process may be frozen
//! at any point for any time.
//!
//! At no moment may two candidates begin a write. From every state somebody leads once the network is well again. Each
//! safeguard is shown to be needed: without it, two lead.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::*;

/// What is different in the world or in the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    Nothing,
    /// A renewal counts from its answer.
    CountsFromTheAnswer,
    /// A write of the Lease needs no version.
    NoVersions,
    /// The Lease's own times are believed, and the clocks differ.
    BelievesTheRecord,
    /// A leader leads until it hears that it does not.
    NoDeadline,
    /// A Lease that was removed is taken for released.
    RemovedIsReleased,
    /// What a restore brought back is taken for released.
    RestoredIsReleased,
    /// One's own name on a Lease is enough to lead, however old.
    OwnNameIsEnough,
}

/// How one world is made.
#[derive(Debug, Clone, Copy)]
struct Setting {
    mutant: Mutant,
    /// How far each clock goes in one tick.
    rates: &'static [u64],
    /// How often at most an answer is given up, or a watch shows the past.
    faults: u8,
    /// Whether somebody removes the Lease, once.
    removed: bool,
    /// Whether the server's data are restored from a backup, once.
    restored: bool,
    /// Whether the story begins with a Lease that was released, of which there is a backup; else the first one that is made is
    /// in the backup.
    released_before: bool,
    /// Whether a leader hands over, once.
    releases: bool,
}

/// In units of which a true clock goes ten a tick.
fn short() -> Terms {
    Terms::new(s(30), s(20), s(10)).unwrap()
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Request {
    Read,
    Bid(Record, Option<Version>),
    Release(Record, Version),
}

#[derive(Debug, Clone)]
struct Replica {
    candidate: Candidate,
    clock: Moment,
    /// The request that it waits for, and the answer that is on its way.
    waits: Option<(Request, Option<Answer>)>,
    /// A bid that it has given up and that may land all the same.
    late: Option<Request>,
    gone: bool,
}

#[derive(Debug, Clone)]
struct World {
    setting: Setting,
    replicas: Vec<Replica>,
    lease: Option<(Record, Version)>,
    /// The Lease before its last change.
    before: Option<(Record, Version)>,
    /// What the backup holds.
    backup: Option<(Record, Version)>,
    writes: u32,
    bids: u32,
    done: [bool; 3],
    faults: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Tick,
    /// It goes on: takes its step.
    Go(usize),
    /// Its request reaches the server.
    Land(usize),
    /// The answer reaches it.
    Answer(usize),
    /// It waits no longer for the answer.
    GiveUp(usize),
    /// A request that was given up reaches the server.
    LandLate(usize),
    /// A watch shows it the Lease, or the Lease of a moment ago.
    Watch(usize, bool),
    Remove,
    Restore,
    Release(usize),
}

impl World {
    fn new(setting: Setting) -> Self {
        let replica = |(n, _)| Replica {
            candidate: Candidate::new(format!("replica {n}"), short()),
            clock: s(1000),
            waits: None,
            late: None,
            gone: false,
        };
        let released = Record {
            holder: None,
            duration: Some(s(1)),
            acquired: None,
            renewed: Some(wall(-1000)),
            transitions: 0,
        };
        let lease = setting.released_before.then(|| (released, "0".to_owned()));
        Self {
            setting,
            replicas: setting.rates.iter().enumerate().map(replica).collect(),
            before: None,
            backup: lease.clone(),
            lease,
            writes: 0,
            bids: 0,
            done: [false; 3],
            faults: setting.faults,
        }
    }

    fn actions(&self) -> Vec<Action> {
        let mut all = vec![Action::Tick];
        for (n, replica) in self.replicas.iter().enumerate() {
            if replica.late.is_some() {
                all.push(Action::LandLate(n));
            }
            match &replica.waits {
                _ if replica.gone => {}
                Some((_, answer)) => {
                    all.push(if answer.is_some() { Action::Answer(n) } else { Action::Land(n) });
                    if self.faults > 0 && replica.late.is_none() {
                        all.push(Action::GiveUp(n));
                    }
                }
                None => {
                    if !matches!(replica.candidate.step(replica.clock), Step::Rest(_)) {
                        all.push(Action::Go(n));
                    }
                    if replica.candidate.leads_until().is_none() {
                        all.push(Action::Watch(n, false));
                        if self.faults > 0 {
                            all.push(Action::Watch(n, true));
                        }
                    }
                }
            }
            if self.setting.releases && !self.done[2] && !replica.gone && self.leads(replica) {
                all.push(Action::Release(n));
            }
        }
        // A process that starts just then cannot know that somebody leads: that is not kept (docs/adr/008).
        let known = self.replicas.iter().all(|replica| replica.gone || replica.candidate.last.is_some());
        // Nor can one whose watch has missed renewals tell that what it sees again is from a backup.
        let there = self.lease.as_ref().map(|(record, _)| record);
        let newest =
            self.replicas.iter().all(|replica| replica.gone || replica.candidate.last.as_ref() == there);
        if self.setting.removed && !self.done[0] && self.lease.is_some() && known {
            all.push(Action::Remove);
        }
        if self.setting.restored && !self.done[1] && self.backup.is_some() && newest {
            all.push(Action::Restore);
        }
        all
    }

    /// Whether it may begin a write now.
    fn leads(&self, replica: &Replica) -> bool {
        let by_time = |until: Moment| self.setting.mutant == Mutant::NoDeadline || replica.clock < until;
        !replica.gone && replica.candidate.leads_until().is_some_and(by_time)
    }

    fn leaders(&self) -> usize {
        self.replicas.iter().filter(|replica| self.leads(replica)).count()
    }

    fn after(&self, action: Action) -> Self {
        let mut next = self.clone();
        match action {
            Action::Tick => {
                for (replica, rate) in next.replicas.iter_mut().zip(self.setting.rates) {
                    replica.clock += s(*rate);
                }
            }
            Action::Go(n) => next.go(n),
            Action::Land(n) => {
                if let Some((request, None)) = next.replicas[n].waits.take() {
                    let answer = next.serve(&request);
                    next.replicas[n].waits = Some((request, Some(answer)));
                }
            }
            Action::Answer(n) => {
                if let Some((request, Some(answer))) = next.replicas[n].waits.take() {
                    next.hears(n, &request, answer);
                }
            }
            Action::GiveUp(n) => {
                next.faults -= 1;
                if let Some((request, answer)) = next.replicas[n].waits.take() {
                    if answer.is_none() && request != Request::Read {
                        next.replicas[n].late = Some(request.clone());
                    }
                    next.hears(n, &request, Answer::Failed);
                }
            }
            Action::LandLate(n) => {
                if let Some(request) = next.replicas[n].late.take() {
                    next.serve(&request);
                }
            }
            Action::Watch(n, past) => {
                next.faults -= u8::from(past);
                let lease = if past { next.before.clone() } else { next.lease.clone() };
                let replica = &mut next.replicas[n];
                replica.candidate.watched(lease, replica.clock);
                next.mutate(n);
            }
            Action::Remove => {
                next.done[0] = true;
                next.before = next.lease.take();
            }
            Action::Restore => {
                next.done[1] = true;
                next.before = next.lease.take();
                // The numbers of versions begin anew; none is given twice.
                next.writes += 1;
                next.lease = next.backup.clone().map(|(record, _)| (record, next.writes.to_string()));
            }
            Action::Release(n) => {
                next.done[2] = true;
                let replica = &mut next.replicas[n];
                // What is under way when it stops may land before or after.
                if let Some((request, None)) = replica.waits.take() {
                    replica.late = Some(request);
                }
                match replica.candidate.release(wall(-i64::from(self.bids))) {
                    Some((record, version)) => {
                        replica.waits = Some((Request::Release(record, version), None))
                    }
                    None => replica.gone = true,
                }
            }
        }
        next
    }

    fn go(&mut self, n: usize) {
        self.bids += 1;
        let wall = wall(i64::from(self.bids));
        let Replica { candidate, clock, waits, .. } = &mut self.replicas[n];
        match candidate.step(*clock) {
            Step::Read => {
                candidate.reads(*clock);
                *waits = Some((Request::Read, None));
            }
            Step::Bid => {
                let (record, version) = candidate.bid(*clock, wall);
                *waits = Some((Request::Bid(record, version), None));
            }
            Step::StandDown => candidate.stands_down(),
            Step::Rest(_) => {}
        }
    }

    fn hears(&mut self, n: usize, request: &Request, answer: Answer) {
        let mutant = self.setting.mutant;
        let replica = &mut self.replicas[n];
        if matches!(request, Request::Release(..)) {
            replica.gone = true;
            return;
        }
        if mutant == Mutant::CountsFromTheAnswer
            && let Some((sent, _)) = &mut replica.candidate.bid
        {
            *sent = replica.clock;
        }
        replica.candidate.answered(answer, replica.clock);
        self.mutate(n);
    }

    fn mutate(&mut self, n: usize) {
        let candidate = &mut self.replicas[n].candidate;
        let free = match (self.setting.mutant, &candidate.lease) {
            (Mutant::BelievesTheRecord, _) => true,
            (Mutant::RemovedIsReleased, Lease::Absent) => true,
            (Mutant::RestoredIsReleased, Lease::There(record, _)) => record.holder.is_none(),
            (Mutant::OwnNameIsEnough, Lease::There(record, _)) => {
                record.holder.as_deref() == Some(&candidate.identity)
            }
            _ => false,
        };
        if free {
            candidate.taken_until = Moment::ZERO;
        }
    }

    /// The rules of the API server.
    fn serve(&mut self, request: &Request) -> Answer {
        let (record, version) = match request {
            Request::Read => return Answer::Found(self.lease.clone()),
            Request::Bid(record, version) => (record, version.as_ref()),
            Request::Release(record, version) => (record, Some(version)),
        };
        let fits = self.lease.as_ref().map(|(_, version)| version) == version;
        if !fits && self.setting.mutant != Mutant::NoVersions {
            return Answer::Refused;
        }
        self.writes += 1;
        self.before = self.lease.replace((record.clone(), self.writes.to_string()));
        if self.backup.is_none() {
            self.backup = self.lease.clone();
        }
        Answer::Taken(self.writes.to_string())
    }

    /// The network is well again: whoever is asked answers, and time goes on.
    fn comes_to_be_led(&self) -> bool {
        let mut world = self.clone();
        for _ in 0..12 {
            for n in 0..world.replicas.len() {
                for action in
                    [Action::LandLate(n), Action::Land(n), Action::Answer(n), Action::Watch(n, false)]
                {
                    if world.actions().contains(&action) {
                        world = world.after(action);
                    }
                }
                for _ in 0..4 {
                    for action in [Action::Go(n), Action::Land(n), Action::Answer(n)] {
                        if world.actions().contains(&action) {
                            world = world.after(action);
                        }
                    }
                }
            }
            if world.leaders() == 1 {
                return true;
            }
            world = world.after(Action::Tick);
        }
        false
    }

    /// Worlds of the same print go on alike: of moments only the distance from now counts, and that not beyond what anybody
    /// asks for; of times for people and of versions only which are the same; of transitions only their order.
    fn print(&self) -> u64 {
        let (mut names, mut hasher) = (Names::default(), DefaultHasher::new());
        let kept = |lease: &Option<(Record, Version)>, names: &mut Names| {
            lease.as_ref().map(|(record, version)| (names.record(record), names.version(version)))
        };
        if self.setting.restored {
            names.transitions.extend(self.records().into_iter().map(|record| record.transitions));
        }
        let (before, backup) = (self.before.as_ref(), self.backup.as_ref());
        let before = before.filter(|_| self.faults > 0).cloned();
        let backup = backup.filter(|_| self.setting.restored && !self.done[1]).cloned();
        for lease in [&self.lease, &before, &backup] {
            kept(lease, &mut names).hash(&mut hasher);
        }
        (self.done, self.faults).hash(&mut hasher);
        for Replica { candidate, clock, waits, late, gone } in &self.replicas {
            let asked = |request: &Request, names: &mut Names| match request {
                Request::Read => (0, None, None),
                Request::Bid(record, version) => {
                    (1, Some(names.record(record)), version.as_ref().map(|version| names.version(version)))
                }
                Request::Release(record, version) => {
                    (2, Some(names.record(record)), Some(names.version(version)))
                }
            };
            gone.hash(&mut hasher);
            late.as_ref().map(|request| asked(request, &mut names)).hash(&mut hasher);
            if *gone {
                continue;
            }
            let ahead = |moment: Moment| moment.saturating_sub(*clock);
            let ago = |moment: Moment| clock.saturating_sub(moment).min(s(30));
            let waiting = waits.as_ref().map(|(request, answer)| {
                let answer = answer.as_ref().map(|answer| match answer {
                    Answer::Found(lease) => (0, kept(lease, &mut names), None),
                    Answer::Taken(version) => (1, None, Some(names.version(version))),
                    Answer::Refused => (2, None, None),
                    Answer::Failed => (3, None, None),
                });
                (asked(request, &mut names), answer, ago(candidate.asked).min(s(10)))
            });
            waiting.hash(&mut hasher);
            let lease = match &candidate.lease {
                Lease::Unknown => (0, None),
                Lease::Absent => (1, None),
                Lease::There(record, version) => (2, Some((names.record(record), names.version(version)))),
            };
            lease.hash(&mut hasher);
            candidate.last.as_ref().map(|record| names.record(record)).hash(&mut hasher);
            (ahead(candidate.taken_until), candidate.renewed.map(ago), ahead(candidate.not_before))
                .hash(&mut hasher);
            let young = |bid: &&(Moment, Record)| waits.is_some() || ago(bid.0) < s(30);
            let bid =
                candidate.bid.as_ref().filter(young).map(|(sent, record)| (ago(*sent), names.record(record)));
            bid.hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Every record that anybody holds.
    fn records(&self) -> Vec<&Record> {
        let mut all: Vec<&Record> = [&self.lease, &self.before, &self.backup]
            .into_iter()
            .flatten()
            .map(|(record, _)| record)
            .collect();
        for Replica { candidate, waits, late, .. } in &self.replicas {
            let requests = waits.iter().map(|(request, _)| request).chain(late);
            all.extend(requests.filter_map(|request| match request {
                Request::Read => None,
                Request::Bid(record, _) | Request::Release(record, _) => Some(record),
            }));
            if let Some((_, Some(Answer::Found(Some((record, _)))))) = waits {
                all.push(record);
            }
            if let Lease::There(record, _) = &candidate.lease {
                all.push(record);
            }
            all.extend(&candidate.last);
            all.extend(candidate.bid.iter().map(|(_, record)| record));
        }
        all
    }
}

/// Numbers for what is the same.
#[derive(Debug, Default)]
struct Names {
    times: Vec<Timestamp>,
    versions: Vec<Version>,
    transitions: std::collections::BTreeSet<i32>,
}

impl Names {
    /// No two records were renewed at the same time, so that is all that tells them apart.
    fn record(&mut self, record: &Record) -> (Option<String>, Option<usize>, usize) {
        let renewed = record.renewed.map(|time| number(&mut self.times, &time));
        let order = self.transitions.range(..record.transitions).count();
        (record.holder.clone(), renewed, order)
    }

    fn version(&mut self, version: &Version) -> usize {
        number(&mut self.versions, version)
    }
}

fn number<T: Clone + PartialEq>(known: &mut Vec<T>, one: &T) -> usize {
    known.iter().position(|other| other == one).unwrap_or_else(|| {
        known.push(one.clone());
        known.len() - 1
    })
}

/// What was found in all states that can be reached.
#[derive(Debug, Default)]
struct Found {
    states: usize,
    /// States in which one leads.
    led: usize,
    /// The way to a state in which two lead.
    two: Option<Vec<Action>>,
    /// A state from which nobody comes to lead.
    stuck: Option<Vec<Action>>,
}

/// None of the worlds of two has as many states.
const MOST: usize = 1_000_000;

/// Looks at all states, the nearest first, but at no more than `most`.
fn explore(setting: Setting, most: usize) -> Found {
    let mut found = Found::default();
    let mut seen = HashSet::new();
    // Where each state was come from, to tell the way.
    let mut ways: Vec<(usize, Option<Action>)> = vec![(0, None)];
    let mut todo = std::collections::VecDeque::from([(World::new(setting), 0)]);
    while let Some((world, here)) = todo.pop_front() {
        found.states += 1;
        if found.states == most {
            return found;
        }
        match world.leaders() {
            0 => {}
            1 => found.led += 1,
            _ => {
                found.two = Some(way(&ways, here));
                return found;
            }
        }
        let stands = world.replicas.iter().any(|replica| !replica.gone);
        let looks = stands && found.stuck.is_none() && found.states.is_multiple_of(257);
        if looks && !world.comes_to_be_led() {
            found.stuck = Some(way(&ways, here));
        }
        for action in world.actions() {
            let next = world.after(action);
            if seen.insert(next.print()) {
                ways.push((here, Some(action)));
                todo.push_back((next, ways.len() - 1));
            }
        }
    }
    found
}

fn way(ways: &[(usize, Option<Action>)], mut at: usize) -> Vec<Action> {
    let mut actions = Vec::new();
    while let (before, Some(action)) = ways[at] {
        actions.push(action);
        at = before;
    }
    actions.reverse();
    actions
}

const TWO: Setting = Setting {
    mutant: Mutant::Nothing,
    rates: &[10, 10],
    faults: 1,
    removed: false,
    restored: false,
    released_before: false,
    releases: false,
};

fn never_two(story: &str, setting: Setting) {
    let found = explore(setting, MOST);
    assert!(found.states < MOST, "{story}: too many states");
    println!("{story}: {} states, in {} of them one leads", found.states, found.led);
    assert_eq!(found.two, None, "{story}: two lead");
    assert_eq!(found.stuck, None, "{story}: nobody comes to lead");
    assert!(found.led > 100, "{story}: somebody led");
}

#[test]
fn two_never_lead_at_once_whatever_is_lost_late_or_frozen() {
    never_two("an answer lost or late", TWO);
}

#[test]
fn nor_with_clocks_that_run_apart() {
    never_two("clocks a fifth apart", Setting { rates: &[9, 11], ..TWO });
}

#[test]
fn nor_when_one_hands_over() {
    never_two("a hand-over", Setting { releases: true, ..TWO });
}

#[test]
fn nor_when_the_lease_is_removed_or_comes_back_from_a_backup() {
    never_two("removed", Setting { removed: true, faults: 0, ..TWO });
    never_two("restored, held", Setting { restored: true, faults: 0, ..TWO });
    never_two("restored, released", Setting { restored: true, released_before: true, faults: 0, ..TWO });
}

#[test]
fn nor_do_three() {
    let found = explore(Setting { rates: &[10, 10, 10], faults: 0, ..TWO }, 150_000);
    println!("three replicas: the {} states that are nearest", found.states);
    assert_eq!(found.two, None, "two lead");
    assert_eq!(found.stuck, None, "nobody comes to lead");
}

#[test]
fn without_any_one_of_the_safeguards_two_lead() {
    let restored = Setting { restored: true, faults: 0, ..TWO };
    for (mutant, setting) in [
        (Mutant::CountsFromTheAnswer, TWO),
        (Mutant::NoVersions, TWO),
        (Mutant::BelievesTheRecord, TWO),
        (Mutant::NoDeadline, TWO),
        (Mutant::RemovedIsReleased, Setting { removed: true, ..TWO }),
        (Mutant::RestoredIsReleased, Setting { released_before: true, ..restored }),
        (Mutant::OwnNameIsEnough, restored),
        (Mutant::Nothing, Setting { rates: &[5, 16], ..TWO }),
    ] {
        let found = explore(Setting { mutant, ..setting }, MOST);
        let way = found.two.unwrap_or_else(|| panic!("{mutant:?} is not caught in {} states", found.states));
        println!("{mutant:?}: two lead after {} actions", way.len());
    }
}
