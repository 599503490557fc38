//! The whole: one instance, one binding, its grants, two processes, and everything that may happen between any two of
//! their steps.
//!
//! A step of a process is what no other can come between: a look, a judgement, a patch of status, the permit with the
//! sending. What nobody of us causes is a disturbance, and each costs one of the budget that bounds the search; EC2's
//! own progress and the passing of time cost nothing.

use std::fmt;

use stateright::{Model, Property};

use super::ec2::{Call, Ec2, Power, Profile, Refusal, Row, RowState};
use super::judge::{Deletion, Judge, Law, Matter, Next, Others, Spec, Verdict, Zeal};
use super::mutants::Mutant;
use super::quiet::Quiet;
use super::small::{Change, FOREIGN, Intent, Kind, Known, Pain, Status, begun, noon, started};
use crate::controller::gather::settles;
use crate::controller::memory::Outcome;
use crate::controller::reconcile::amended;
use crate::controller::report;
use crate::decide::{History, PastChange};

/// The properties that a single step can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vow {
    Unclaimed,
    OneWrite,
    Granted,
    Deletion,
    Newest,
    Bare,
    Swap,
}

/// The binding's object in the API server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Object {
    pub spec: Spec,
    pub status: Status,
    pub deleted: bool,
    /// Deleted for over two minutes.
    pub ripe: bool,
    pub finalizer: bool,
}

/// Where a process stands with a write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Doing {
    Idle,
    /// Decided by the object as it was; `overtaken` once the object is another.
    Decided {
        intent: Intent,
        told: Status,
        before: Status,
        spec: Spec,
        overtaken: bool,
    },
    /// Its intent is recorded.
    Intended {
        intent: Intent,
        before: Status,
        serial: u8,
        edited: bool,
    },
    /// Sent, and not answered yet. `heals` if it brings what is declared.
    Sent {
        serial: u8,
        heals: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Process {
    pub known: Known,
    pub pain: Option<Pain>,
    /// What became of the change of this serial: done, or refused.
    pub outcome: Option<(u8, bool)>,
    pub doing: Doing,
    /// The newest change from before it started to lead.
    pub started: u8,
    /// Something that its notes hang on has changed.
    pub news: bool,
    /// It looks before it decides again.
    pub must_look: bool,
}

impl Process {
    fn new(started: u8) -> Self {
        Self {
            known: Known::default(),
            pain: None,
            outcome: None,
            doing: Doing::Idle,
            started,
            news: false,
            must_look: false,
        }
    }
}

/// A request on its way to EC2, or its reply on the way back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request {
    /// Who awaits the reply; nobody once the process was killed or gave up.
    pub by: Option<usize>,
    pub intent: Intent,
    pub serial: u8,
    pub reply: Option<Result<Row, Refusal>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub object: Option<Object>,
    /// The policy of a binding that was let go with its work done, and so nothing of it may appear again.
    pub gone: Option<Deletion>,
    pub ec2: Ec2,
    pub law: Law,
    pub rival: bool,
    pub processes: [Process; 2],
    pub leader: usize,
    pub air: Vec<Request>,
    /// The serial of the next change.
    pub serial: u8,
    /// A swap of ours took a profile off, and nothing came after it.
    pub swapped: Option<Profile>,
    /// What others did lately, as far as a repair waits for it.
    pub others: Others,
    /// The namespace's circuit is open.
    pub open: bool,
    /// Where one of these may hold a repair: the newest change of the instance was an outsider's, and nothing was declared
    /// since it was seen.
    pub tampered: bool,
    /// How many disturbances may still come.
    pub left: u8,
    /// What was violated on the way here.
    pub broken: Vec<Vow>,
}

impl fmt::Debug for State {
    /// A line for each thing, so that what a step changed can be told by lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            None => writeln!(f, "binding: gone, let go with {:?}", self.gone)?,
            Some(Object { spec, status, deleted, ripe, finalizer }) => {
                writeln!(f, "spec: {spec:?} deleted {deleted} (long ago {ripe}) finalizer {finalizer}")?;
                let Status {
                    observed, desired, previous, adopted, synced, drifting, arriving, changes, ..
                } = status;
                writeln!(
                    f,
                    "status: observed {observed} desired {desired:?} previous {previous:?} adopted {adopted} synced {synced} drifting {drifting} arriving {arriving}"
                )?;
                for change in changes {
                    writeln!(f, "change: {change:?}")?;
                }
            }
        }
        let Ec2 { power, rows, past, denied, unknown, .. } = &self.ec2;
        writeln!(f, "instance: {power:?} denied {denied} unknown {unknown}")?;
        writeln!(f, "rows: {rows:?} past {past:?}")?;
        writeln!(f, "grants: {:?} rival {} half-swapped {:?}", self.law, self.rival, self.swapped)?;
        writeln!(f, "others: {:?} circuit open {} tampered {}", self.others, self.open, self.tampered)?;
        for Request { by, intent, serial, reply } in &self.air {
            writeln!(f, "request {serial} of {by:?}: {intent:?} reply {reply:?}")?;
        }
        for (at, process) in self.processes.iter().enumerate() {
            let Process { known, pain, outcome, doing, news, must_look, .. } = process;
            let leads = at == self.leader;
            writeln!(f, "process {at}: leads {leads} knows {known:?}")?;
            writeln!(
                f,
                "process {at}: {doing:?} {pain:?} outcome {outcome:?} news {news} must look {must_look}"
            )?;
        }
        if !self.broken.is_empty() {
            writeln!(f, "broken: {:?}", self.broken)?;
        }
        Ok(())
    }
}

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    // What processes do.
    Look,
    Pass,
    Intend(usize),
    Permit(usize),
    // What EC2 does, and what time does.
    Execute(usize),
    Deliver(usize),
    RowsMoveOn,
    PowersOn,
    Settle,
    HoldOffEnds,
    Minutes,
    // Disturbances.
    LookAtThePast,
    ListingMissesTheRow,
    LosesReply(usize),
    Throttles(usize),
    Crash,
    NewLeader,
    Edit(Spec),
    Delete,
    Power(Power),
    OutsiderAttaches,
    OutsiderDetaches,
    PassRoleDenied(bool),
    ProfileUnknown(bool),
    Grants(Law),
    Rival(bool),
    RowSticks,
    Circuit(bool),
}

/// Which disturbances a search is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// Crashes, second leaders, lost replies, stale looks, outsiders.
    Storm,
    /// Edits, deletion, grants, rivals.
    People,
    /// Instance states, denials, profiles that EC2 does not know, stuck rows.
    Cloud,
    /// Repairs that are held back, by an open circuit or because others keep changing the instance, while people edit and delete.
    Restraint,
}

/// A search: where it begins and what may happen.
#[derive(Debug)]
pub struct Storm {
    pub theme: Theme,
    pub starts: Vec<State>,
    pub judge: Judge,
    pub quiet: Quiet,
}

impl Storm {
    /// From every world that a binding may first meet, with so many disturbances.
    pub fn new(theme: Theme, budget: u8, mutant: Option<Mutant>) -> Self {
        let mut starts = Vec::new();
        for power in [Power::Running, Power::Stopped] {
            for carries in [None, Some(Profile::Old)] {
                for deletion in [Deletion::Detach, Deletion::Restore, Deletion::Retain] {
                    let spec = Spec { want: Some(Profile::App), zeal: Zeal::Enforce, deletion };
                    let start = State::new(spec, power, carries, budget);
                    match theme {
                        // What differs between the policies is no matter of waiting.
                        Theme::Restraint if carries.is_some() => {
                            starts.push(State { open: true, ..start.clone() });
                            let waits = State { others: Others::Much, ..start };
                            starts.extend((deletion == Deletion::Detach).then_some(waits));
                        }
                        Theme::Restraint => {}
                        Theme::Storm | Theme::People | Theme::Cloud => starts.push(start),
                    }
                }
            }
        }
        Self { theme, starts, judge: Judge::new(mutant), quiet: Quiet::default() }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.judge.mutant == Some(mutant)
    }

    fn matter(&self, state: &State, object: &Object, status: Status, process: &Process) -> Matter {
        Matter {
            spec: object.spec,
            status,
            deleted: object.deleted.then_some(object.ripe),
            finalizer: object.finalizer,
            law: state.law,
            rival: state.rival,
            known: Known { accounted: None, ..process.known.clone() },
            pain: process.pain,
            others: state.others,
            open: state.open,
        }
    }

    /// The leader's view, as it is before it judges: changes of others are taken into account.
    fn judge(&self, state: &mut State, who: usize, status: &Status) -> Option<Verdict> {
        let object = state.object.clone()?;
        let process = &mut state.processes[who];
        if !self.is(Mutant::ForgetsIntentsOfOthers) {
            settle_others(process, status);
        }
        let process = &state.processes[who];
        Some(self.judge.judge(&self.matter(state, &object, status.clone(), process)))
    }

    /// A look belongs to a judgement, at most a moment away: what others wrote is taken into account along with it.
    fn sets_out_to_look(&self, state: &mut State) -> Option<()> {
        let process = &mut state.processes[state.leader];
        let status = &state.object.as_ref()?.status;
        if !self.is(Mutant::ForgetsIntentsOfOthers) {
            settle_others(process, status);
        }
        (process.doing == Doing::Idle).then_some(())
    }

    fn pass(&self, state: &mut State) -> Option<()> {
        let who = state.leader;
        let object = state.object.clone()?;
        let process = &mut state.processes[who];
        let sent = matches!(process.doing, Doing::Sent { .. }) && self.is(Mutant::SecondWriteInFlight);
        if process.doing != Doing::Idle && !sent || process.must_look {
            return None;
        }
        if process.news {
            (process.pain, process.known.fresh, process.news) = (None, false, false);
        }
        let before = ahead(&object.status, process);
        let verdict = self.judge(state, who, &before)?;
        let Verdict { next, told, finalizer } = verdict;
        match next {
            Next::Look => {}
            Next::Write(intent) => {
                self.finalize(state, finalizer);
                let spec = object.spec;
                state.processes[who].doing = Doing::Decided { intent, told, before, spec, overtaken: false };
            }
            Next::Release => state.released(&before),
            Next::Rest { done } => {
                self.finalize(state, finalizer);
                if let Some(object) = &mut state.object
                    && object.status != told
                {
                    object.status = told;
                    state.object_changed(Some(who), false);
                }
                let process = &mut state.processes[who];
                process.outcome = None;
                if done {
                    process.pain = None;
                }
            }
        }
        Some(())
    }

    fn finalize(&self, state: &mut State, due: Option<bool>) {
        if let (Some(object), Some(has)) = (state.object.as_mut().filter(|object| !object.deleted), due) {
            object.finalizer = has;
            state.object_changed(Some(state.leader), false);
        }
    }

    /// The patch of intent, after the dry run of a swap's second half.
    fn intend(&self, state: &mut State, who: usize) -> Option<()> {
        let Doing::Decided { intent, told, before, overtaken, .. } = state.processes[who].doing.clone()
        else {
            return None;
        };
        state.processes[who].doing = Doing::Idle;
        if let Some(refusal) = intent.then.and_then(|profile| state.ec2.refuses(profile)) {
            state.processes[who].fails(kind_of(refusal), intent.then);
            return Some(());
        }
        let Some(object) = &mut state.object else { return Some(()) };
        if overtaken && !self.is(Mutant::IgnoresTheNewerEdit) {
            // The API server answers 409: everything is read again.
            return Some(());
        }
        let serial = state.serial;
        state.serial += 1;
        if !self.is(Mutant::WritesWithoutIntent) {
            let since = state.processes[who].started;
            let mut status = told.real(since);
            report::intend(&mut status, &intent.write(), begun(serial, false, since));
            object.status = Status::of(&status);
            state.object_changed(Some(who), false);
            state.processes[who].outcome = None;
        }
        if let (Some(pain), Some(_)) = (&mut state.processes[who].pain, intent.then) {
            pain.before_swap = true;
        }
        state.processes[who].doing = Doing::Intended { intent, before, serial, edited: overtaken };
        Some(())
    }

    /// Decides once more, and sends.
    fn permit(&self, state: &mut State, who: usize) -> Option<()> {
        let Doing::Intended { intent, before, serial, edited } = state.processes[who].doing.clone() else {
            return None;
        };
        let mut due = who == state.leader
            && state.object.is_some()
            && (!edited || self.is(Mutant::IgnoresTheNewerEdit));
        if due && !self.is(Mutant::SendsWithoutPermit) && !self.is(Mutant::IgnoresTheNewerEdit) {
            let mut verdict = self.judge(state, who, &before)?;
            if verdict.next == Next::Look {
                state.look(who, false);
                verdict = self.judge(state, who, &before)?;
            }
            due = verdict.next == Next::Write(intent);
        }
        if !due {
            state.processes[who].doing = Doing::Idle;
            state.processes[who].outcome = Some((serial, false));
            return Some(());
        }
        let heals = state.object.as_ref().is_some_and(|object| match intent.call {
            Call::Associate(profile) | Call::Replace(_, profile) => object.spec.want == Some(profile),
            Call::Disassociate(_) => object.spec.want.is_none(),
        });
        state.watch_sending(who, intent, &before);
        state.processes[who].doing = Doing::Sent { serial, heals };
        state.air.push(Request { by: Some(who), intent, serial, reply: None });
        Some(())
    }

    /// The disturbances that this search is about.
    fn disturbances(&self, state: &State, actions: &mut Vec<Action>) {
        let is = |theme| self.theme == theme;
        let living = state.object.as_ref().filter(|object| !object.deleted);
        if is(Theme::Storm) {
            actions.extend([
                Action::LookAtThePast,
                Action::ListingMissesTheRow,
                Action::Crash,
                Action::NewLeader,
            ]);
            actions.extend([Action::OutsiderAttaches, Action::OutsiderDetaches]);
            for at in 0..state.air.len() {
                actions.extend([Action::LosesReply(at), Action::Throttles(at)]);
            }
        }
        actions.extend(living.map(|_| Action::Delete));
        if is(Theme::Restraint) {
            actions.extend([
                Action::OutsiderAttaches,
                Action::OutsiderDetaches,
                Action::Circuit(!state.open),
            ]);
            actions.push(Action::Crash);
        }
        if let (Some(object), true) = (living, is(Theme::People) || is(Theme::Restraint)) {
            let spec = object.spec;
            for want in [Some(Profile::App), Some(Profile::Old), None] {
                actions.push(Action::Edit(Spec { want, ..spec }));
            }
            for zeal in [Zeal::Enforce, Zeal::Suspend, Zeal::Observe] {
                actions.push(Action::Edit(Spec { zeal, ..spec }));
            }
        }
        if is(Theme::People) {
            actions.extend([Law::All, Law::NeverNone, Law::Nothing].map(Action::Grants));
            actions.push(Action::Rival(!state.rival));
        }
        if is(Theme::Cloud) {
            actions.extend([Power::Pending, Power::Stopping, Power::Terminated].map(Action::Power));
            actions.push(Action::PassRoleDenied(!state.ec2.denied));
            actions.push(Action::ProfileUnknown(!state.ec2.unknown));
            actions.push(Action::RowSticks);
            actions.extend([Action::OutsiderDetaches, Action::Crash]);
        }
    }

    /// What an action makes of a state; nothing if it cannot happen, or changes nothing.
    pub fn after(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        let leader = state.leader;
        match action {
            Action::Look => {
                self.sets_out_to_look(&mut state)?;
                state.look(leader, false);
            }
            Action::Pass => self.pass(&mut state)?,
            Action::Intend(who) => self.intend(&mut state, who)?,
            Action::Permit(who) => self.permit(&mut state, who)?,
            Action::Execute(at) => state.execute(at)?,
            Action::Deliver(at) => state.deliver(at)?,
            Action::RowsMoveOn => state.ec2.moves_on().then_some(())?,
            Action::PowersOn => state.powers_on()?,
            Action::Settle => state.settle()?,
            Action::HoldOffEnds => {
                if state.others == Others::Much {
                    state.others = Others::MuchLongAgo;
                }
                if let Some(pain) = &mut state.processes[leader].pain {
                    pain.held = false;
                }
            }
            Action::Minutes => state.minutes_pass()?,
            Action::LookAtThePast => {
                state.ec2.past.as_ref()?;
                self.sets_out_to_look(&mut state)?;
                state.look(leader, true);
            }
            Action::ListingMissesTheRow => {
                state.object.as_ref()?;
                if state.processes[leader].doing != Doing::Idle || state.ec2.rows.is_empty() {
                    return None;
                }
                state.processes[leader].known.lists(&[]);
            }
            Action::LosesReply(at) => state.loses_reply(at)?,
            Action::Throttles(at) => {
                let request = state.air.get_mut(at).filter(|r| r.reply.is_none() && r.by.is_some())?;
                request.reply = Some(Err(Refusal::Throttled));
            }
            Action::Crash => {
                for request in state.air.iter_mut().filter(|request| request.by == Some(leader)) {
                    request.by = None;
                }
                state.air.retain(|request| request.by.is_some() || request.reply.is_none());
                state.processes[leader] = Process::new(state.serial);
                state.others = Others::Little;
            }
            Action::NewLeader => {
                state.object.as_ref()?;
                let next = 1 - leader;
                // A process that became a standby has nothing under way any more.
                if state.processes[next].doing != Doing::Idle {
                    return None;
                }
                state.processes[next] = Process::new(state.serial);
                state.leader = next;
            }
            Action::Edit(spec) => {
                let object = state.object.as_mut().filter(|object| !object.deleted && object.spec != spec)?;
                object.spec = spec;
                object.status.observed = false;
                // Who has not seen it yet may find the instance as declared, and that somebody changed it only later.
                state.tampered &= state.leader_is_behind();
                state.object_changed(None, true);
            }
            Action::Delete => {
                let object = state.object.as_mut().filter(|object| !object.deleted)?;
                object.deleted = true;
                object.status.observed = false;
                if !object.finalizer {
                    state.object = None;
                }
                state.object_changed(None, true);
            }
            Action::Power(Power::Terminated) if state.ec2.power != Power::Terminated => {
                state.ec2.terminate();
                state.swapped = None;
            }
            Action::Power(Power::Pending) if state.ec2.power == Power::Stopped => {
                state.ec2.power = Power::Pending;
            }
            Action::Power(Power::Stopping) if state.ec2.power == Power::Running => {
                state.ec2.power = Power::Stopping;
            }
            Action::Power(_) => return None,
            Action::OutsiderAttaches => {
                state.ec2.outsider_attaches().then_some(())?;
                state.swapped = None;
                state.tampered = self.theme == Theme::Restraint;
            }
            Action::OutsiderDetaches => {
                state.ec2.outsider_detaches().then_some(())?;
                state.swapped = None;
                state.tampered = self.theme == Theme::Restraint;
            }
            Action::PassRoleDenied(denied) => state.ec2.denied = denied,
            Action::ProfileUnknown(unknown) => state.ec2.unknown = unknown,
            Action::Grants(law) => {
                state.law = law;
                state.processes.iter_mut().for_each(|process| process.news = true);
            }
            Action::Rival(rival) => state.rival = rival,
            Action::Circuit(open) => state.open = open,
            Action::RowSticks => {
                let row = state.ec2.rows.iter_mut().find(|row| row.state != RowState::Associated)?;
                if state.ec2.power != Power::Running || std::mem::replace(&mut row.stuck, true) {
                    return None;
                }
            }
        }
        if state == *last {
            return None;
        }
        state.left -= u8::from(is_disturbance(action));
        state.tidy();
        Some(state)
    }

    /// Everything that costs nothing.
    pub fn progress(&self, state: &State, actions: &mut Vec<Action>) {
        for at in 0..state.air.len() {
            actions.extend([Action::Execute(at), Action::Deliver(at)]);
        }
        for who in 0..2 {
            actions.extend([Action::Intend(who), Action::Permit(who)]);
        }
        actions.extend([Action::Look, Action::Pass, Action::RowsMoveOn, Action::PowersOn, Action::Settle]);
        actions.extend([Action::HoldOffEnds, Action::Minutes]);
    }
}

fn is_disturbance(action: Action) -> bool {
    use Action::*;
    !matches!(
        action,
        Look | Pass
            | Intend(_)
            | Permit(_)
            | Execute(_)
            | Deliver(_)
            | RowsMoveOn
            | PowersOn
            | Settle
            | HoldOffEnds
            | Minutes
    )
}

fn kind_of(refusal: Refusal) -> Option<Kind> {
    match refusal {
        Refusal::Overtaken | Refusal::InstanceState => Some(Kind::Overtaken),
        Refusal::ProfileUnknown => Some(Kind::ProfileInvalid),
        Refusal::Denied => Some(Kind::Denied),
        // It waits for its turn, which is no trouble.
        Refusal::Throttled => None,
    }
}

/// Status as it is known to the process: with what became of its newest change.
fn ahead(status: &Status, process: &Process) -> Status {
    let outcome = process.outcome.map(|(serial, done)| {
        let old = status.changes.iter().any(|change| change.serial == serial && change.old);
        let outcome = if done { Outcome::Completed(None) } else { Outcome::Withdrawn };
        (begun(serial, old, process.started), outcome)
    });
    Status::of(&amended(status.real(process.started), outcome))
}

/// What others wrote leaves looks unsettled for a while.
fn settle_others(process: &mut Process, status: &Status) {
    let Some(newest) = status.changes.first() else { return };
    let history = History {
        changes: vec![PastChange {
            operation: newest.operation,
            from: crate::decide::Carried::Nothing,
            to: crate::decide::Carried::Nothing,
            then: None,
            at: begun(newest.serial, newest.old, process.started),
            confirmed: newest.confirmed,
        }],
        ..History::default()
    };
    if let Some((at, until)) = settles(&history, started(), noon()) {
        process.known.written_elsewhere(newest.serial, at, until);
    }
}

impl Process {
    fn fails(&mut self, kind: Option<Kind>, of: Option<Profile>) {
        if let Some(kind) = kind {
            self.pain = Some(Pain::after(self.pain, kind, of));
        }
    }
}

impl State {
    pub fn new(spec: Spec, power: Power, carries: Option<Profile>, left: u8) -> Self {
        let object =
            Object { spec, status: Status::default(), deleted: false, ripe: false, finalizer: false };
        Self {
            object: Some(object),
            gone: None,
            ec2: Ec2::new(power, carries),
            law: Law::All,
            rival: false,
            processes: [Process::new(0), Process::new(0)],
            leader: 0,
            air: Vec::new(),
            serial: 1,
            swapped: None,
            others: Others::Little,
            open: false,
            tampered: false,
            left,
            broken: Vec::new(),
        }
    }

    /// A stopped instance with another profile, which a deletion is to bring back: every change takes two writes.
    pub fn asks_most(&self) -> bool {
        let restores = self.object.as_ref().is_some_and(|object| object.spec.deletion == Deletion::Restore);
        restores && self.ec2.power == Power::Stopped && self.ec2.carries().is_some()
    }

    /// Whether the leader believes in other rows than there are.
    fn leader_is_behind(&self) -> bool {
        let seen = self.processes[self.leader].known.view.as_ref();
        let there: Vec<u8> = self.ec2.rows.iter().map(|row| row.id).collect();
        seen.is_some_and(|view| view.rows.iter().map(|seen| seen.row.id).ne(there))
    }

    fn deleted_now(&self) -> bool {
        self.object.as_ref().is_some_and(|object| object.deleted)
    }

    /// The object is another one now, by `who`'s patch or by a person's.
    fn object_changed(&mut self, who: Option<usize>, by_person: bool) {
        for (at, process) in self.processes.iter_mut().enumerate() {
            if Some(at) == who {
                continue;
            }
            match &mut process.doing {
                Doing::Decided { overtaken, .. } => *overtaken = true,
                Doing::Intended { edited, .. } => *edited |= by_person,
                Doing::Idle | Doing::Sent { .. } => {}
            }
            process.news |= by_person;
        }
    }

    fn look(&mut self, who: usize, past: bool) {
        let rows = self.ec2.past.clone().filter(|_| past).unwrap_or_else(|| self.ec2.rows.clone());
        let process = &mut self.processes[who];
        process.known.looks(&rows);
        let power = self.ec2.power;
        let runs = power == Power::Running && process.known.instance.is_some_and(|seen| seen != power);
        if runs && let Some(view) = &mut process.known.view {
            // Only from now on does being on the way for long mean something.
            view.rows.iter_mut().for_each(|seen| seen.age = 0);
        }
        (process.known.instance, process.known.fresh) = (Some(power), true);
        process.must_look = false;
    }

    fn execute(&mut self, at: usize) -> Option<()> {
        let request = self.air.get(at).filter(|request| request.reply.is_none())?.clone();
        let carried = self.ec2.carries();
        let running = self.ec2.power == Power::Running;
        let stuck = self.ec2.rows.iter().any(|row| row.stuck && Some(row.id) == request.intent.association());
        let reply = if request.intent.association() == Some(FOREIGN) {
            Err(Refusal::Overtaken)
        } else {
            self.ec2.call(request.intent.call)
        };
        if reply.is_ok() {
            let now = self.ec2.carries();
            self.tampered = false;
            if carried.is_some() && now.is_none() {
                self.swapped = request.intent.then.and(carried);
                if running && request.intent.then.is_some() && !stuck {
                    self.broke(Vow::Bare);
                }
            } else if now.is_some() {
                self.swapped = None;
            }
            let ours = matches!(now, Some(Profile::App | Profile::Old)) && now != carried;
            if self.object.is_none() && self.gone == Some(Deletion::Detach) && ours {
                self.broke(Vow::Deletion);
            }
        }
        match request.by {
            Some(_) => self.air[at].reply = Some(reply),
            None => drop(self.air.remove(at)),
        }
        Some(())
    }

    fn deliver(&mut self, at: usize) -> Option<()> {
        let request = self.air.get(at).filter(|request| request.reply.is_some())?.clone();
        let process = &mut self.processes[request.by?];
        self.air.remove(at);
        let heals = matches!(process.doing, Doing::Sent { heals: true, .. });
        process.doing = Doing::Idle;
        match request.reply? {
            Ok(row) => {
                process.known.wrote(row, request.serial);
                process.outcome = Some((request.serial, true));
                if heals {
                    process.pain = None;
                }
            }
            Err(refusal) => {
                process.outcome = Some((request.serial, false));
                process.fails(kind_of(refusal), request.intent.brings());
                process.must_look = true;
            }
        }
        Some(())
    }

    /// The client gives up: the request may still arrive, or has arrived.
    fn loses_reply(&mut self, at: usize) -> Option<()> {
        let request = self.air.get(at)?.clone();
        let process = &mut self.processes[request.by?];
        process.doing = Doing::Idle;
        process.known.wrote_perhaps(request.serial);
        process.fails(Some(Kind::OutcomeUnknown), request.intent.brings());
        process.must_look = true;
        if request.reply.is_some() {
            self.air.remove(at);
        } else {
            self.air[at].by = None;
        }
        Some(())
    }

    /// An instance takes longer to start than a look is fresh and a request may live.
    fn powers_on(&mut self) -> Option<()> {
        let half = |request: &Request| request.reply.is_none() && request.intent.then.is_some();
        if self.ec2.power == Power::Pending && self.air.iter().any(half) || !self.ec2.powers_on() {
            return None;
        }
        self.processes.iter_mut().for_each(|process| process.known.fresh = false);
        Some(())
    }

    /// Half a minute passes: what was written shows, requests whose replies nobody awaits are dead, looks are old.
    fn settle(&mut self) -> Option<()> {
        if self.air.iter().any(|request| request.by.is_some()) {
            return None;
        }
        self.air.clear();
        self.ec2.past = None;
        let age = |status: &mut Status| status.changes.iter_mut().for_each(|change| change.old = true);
        if let Some(object) = &mut self.object {
            age(&mut object.status);
        }
        for process in &mut self.processes {
            process.known.fresh = false;
            if let Some(wrote) = &mut process.known.wrote {
                wrote.over = true;
            }
            match &mut process.doing {
                Doing::Decided { told, before, .. } => {
                    age(told);
                    age(before);
                }
                // Its permit comes too late.
                Doing::Intended { before, edited, .. } => {
                    age(before);
                    *edited = true;
                }
                Doing::Idle | Doing::Sent { .. } => {}
            }
        }
        Some(())
    }

    /// Minutes pass, where anything hangs on it and all has settled.
    fn minutes_pass(&mut self) -> Option<()> {
        let mut settled = self.clone();
        let waits = self.ec2.rows.iter().any(|row| row.stuck)
            || self.processes[self.leader].pain.is_some_and(|pain| pain.kind == Kind::ProfileInvalid)
            || self.deleted_now();
        if !waits || !self.air.is_empty() || settled.settle().is_some() && settled != *self {
            return None;
        }
        if let Some(object) = &mut self.object {
            object.ripe = object.deleted;
        }
        let process = &mut self.processes[self.leader];
        for seen in process.known.view.iter_mut().flat_map(|view| &mut view.rows) {
            seen.age = (seen.age + 1).min(2);
        }
        if let Some(pain) = &mut process.pain {
            (pain.old, pain.held) = (true, false);
        }
        Some(())
    }

    fn broke(&mut self, law: Vow) {
        if !self.broken.contains(&law) {
            self.broken.push(law);
        }
    }

    /// The finalizer goes.
    fn released(&mut self, status: &Status) {
        let Some(Object { spec, .. }) = self.object.take() else { return };
        let there = !self.rival && self.ec2.power != Power::Terminated;
        let indebted = self.law == Law::NeverNone
            || self.law == Law::All && spec.zeal == Zeal::Enforce && spec.deletion == Deletion::Retain;
        if there && indebted && self.swapped.is_some() {
            self.broke(Vow::Swap);
        }
        if there && self.law == Law::All && spec.zeal == Zeal::Enforce {
            self.gone = Some(spec.deletion);
            let newest = status.changes.first().and_then(|change| change.to);
            let put = |profile: Profile| status.changes.iter().any(|change| change.to == Some(profile));
            let carries = self.ec2.carries();
            let kept = match (spec.deletion, carries) {
                (Deletion::Retain, _) => true,
                (Deletion::Detach, None) => true,
                (Deletion::Detach, Some(profile)) => {
                    profile == Profile::Other || status.desired != Some(carries) && newest != carries
                }
                // What was not known to EC2 for long is not waited for.
                (Deletion::Restore, _) if self.ec2.unknown => true,
                (Deletion::Restore, Some(profile)) => {
                    !put(profile) || status.previous.is_none_or(|previous| previous == carries)
                }
                (Deletion::Restore, None) => self.swapped.is_none() || status.previous == Some(None),
            };
            if !kept {
                self.broke(Vow::Deletion);
            }
        }
        self.object_changed(None, true);
    }

    /// What must hold of a write at the moment in which it is sent.
    fn watch_sending(&mut self, who: usize, intent: Intent, before: &Status) {
        let Some(object) = self.object.clone() else { return self.broke(Vow::Unclaimed) };
        let Spec { want, zeal, deletion } = object.spec;
        // A swap that was begun is ended, where the instance must not be without a profile.
        let keeps = object.deleted && zeal == Zeal::Enforce && deletion == Deletion::Retain;
        let halves = before.halves();
        let owed = matches!(intent.call, Call::Associate(profile) if halves.contains(&Some(profile)))
            && (self.law == Law::NeverNone || keeps);
        let unclaimed = zeal != Zeal::Enforce && !owed
            || self.rival
            || object.deleted && !object.finalizer
            || intent.association() == Some(FOREIGN);
        if unclaimed {
            self.broke(Vow::Unclaimed);
        }
        let strips = intent.brings().is_none();
        if self.law == Law::Nothing || self.law == Law::NeverNone && strips {
            self.broke(Vow::Granted);
        }
        let newest = object.status.changes.first();
        let is_this =
            |change: &Change| !change.confirmed && change.from == intent.from && change.then == intent.then;
        let busy = self.air.iter().any(|request| request.by == Some(who));
        if busy || !newest.is_some_and(is_this) {
            self.broke(Vow::OneWrite);
        }
        let brings = intent.brings();
        if !object.deleted {
            let back = brings.is_some() && halves.contains(&brings);
            if brings != want && !back {
                self.broke(Vow::Newest);
            }
            return;
        }
        let ours = intent.from.is_some_and(|from| {
            let asked = before.changes.first().and_then(|change| change.to);
            before.desired == Some(Some(from)) || asked == Some(from)
        });
        let due = match deletion {
            Deletion::Retain => false,
            Deletion::Detach => strips && ours,
            Deletion::Restore => object.status.previous == Some(brings),
        };
        if !due && !owed {
            self.broke(Vow::Deletion);
        }
    }

    /// Names nothing by how often it happened: states that differ by it alone are one.
    fn tidy(&mut self) {
        let mut ids: Vec<u8> = self.association_ids().map(|id| *id).filter(|id| *id != FOREIGN).collect();
        ids.sort_unstable();
        ids.dedup();
        let rank = |id: &u8| u8::try_from(ids.iter().position(|other| other == id).unwrap_or(ids.len()));
        self.ec2.next = u8::try_from(ids.len()).unwrap_or(FOREIGN - 1);
        for id in self.association_ids().filter(|id| **id != FOREIGN) {
            *id = rank(id).unwrap_or(FOREIGN - 1);
        }
        let mut serials: Vec<u8> = self.serials().map(|serial| *serial).collect();
        serials.sort_unstable();
        serials.dedup();
        let before =
            |serial: u8| u8::try_from(serials.partition_point(|other| *other < serial)).unwrap_or(u8::MAX);
        let next = u8::try_from(serials.len()).unwrap_or(u8::MAX) + 1;
        for process in &mut self.processes {
            // A process's start falls between two changes; only which matters.
            process.started =
                u8::try_from(serials.partition_point(|other| *other <= process.started)).unwrap_or(u8::MAX);
        }
        for serial in self.serials() {
            *serial = before(*serial) + 1;
        }
        self.serial = next;
    }

    fn association_ids(&mut self) -> impl Iterator<Item = &mut u8> {
        let Self { ec2, processes, air, .. } = self;
        let rows = ec2.rows.iter_mut().chain(ec2.past.iter_mut().flatten());
        let replies = air.iter_mut().flat_map(|request| {
            let row = request.reply.as_mut().and_then(|reply| reply.as_mut().ok()).map(|row| &mut row.id);
            named_by(&mut request.intent).into_iter().chain(row)
        });
        let held = processes.iter_mut().flat_map(|Process { known, doing, .. }| {
            let seen = known.view.iter_mut().flat_map(|view| &mut view.rows).map(|seen| &mut seen.row.id);
            let before = known
                .wrote
                .iter_mut()
                .flat_map(|wrote| wrote.known.iter_mut().flatten().chain(&mut wrote.brought));
            let meant = match doing {
                Doing::Decided { intent, .. } | Doing::Intended { intent, .. } => named_by(intent),
                Doing::Idle | Doing::Sent { .. } => None,
            };
            seen.chain(before).chain(meant)
        });
        rows.map(|row| &mut row.id).chain(replies).chain(held)
    }

    fn serials(&mut self) -> impl Iterator<Item = &mut u8> {
        let Self { object, processes, air, .. } = self;
        let told = object.iter_mut().flat_map(|object| &mut object.status.changes).map(|c| &mut c.serial);
        let sent = air.iter_mut().map(|request| &mut request.serial);
        let held = processes.iter_mut().flat_map(|Process { outcome, known, doing, .. }| {
            let (first, second, own): (&mut [Change], &mut [Change], Option<&mut u8>) = match doing {
                Doing::Decided { told, before, .. } => (&mut told.changes, &mut before.changes, None),
                Doing::Intended { before, serial, .. } => (&mut before.changes, &mut [], Some(serial)),
                Doing::Sent { serial, .. } => (&mut [], &mut [], Some(serial)),
                Doing::Idle => (&mut [], &mut [], None),
            };
            let changes = first.iter_mut().chain(second).map(|change| &mut change.serial);
            let notes = outcome.iter_mut().map(|(serial, _)| serial).chain(known.accounted.iter_mut());
            changes.chain(own).chain(notes)
        });
        told.chain(sent).chain(held)
    }
}

fn named_by(intent: &mut Intent) -> Option<&mut u8> {
    match &mut intent.call {
        Call::Associate(_) => None,
        Call::Replace(id, _) | Call::Disassociate(id) => Some(id),
    }
}

/// The names of the properties, and what they say.
pub const PROPERTIES: [(&str, &str); 9] = [
    ("S1", "no instance is touched that is not claimed: not while suspended, observed, another's, or gone"),
    ("S2", "a process has one write in flight at most, and its intent stands in status"),
    ("S3", "no write without a grant at that moment"),
    ("S4", "a system that is left alone comes to rest: no write, no change of status"),
    ("S5", "a deletion does exactly what its policy says"),
    ("S6", "a swap on a stopped instance ends with a profile"),
    ("L1", "left alone, the instance is as declared, or the deletion ends"),
    ("R", "no profile is taken off a running instance for another one, but for the rule for stuck rows"),
    ("E", "no write serves another spec than the newest"),
];

impl Model for Storm {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.starts.clone()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !state.broken.is_empty() {
            return;
        }
        self.progress(state, actions);
        if state.left > 0 {
            self.disturbances(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.after(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn kept(state: &State, law: Vow) -> bool {
            !state.broken.contains(&law)
        }
        vec![
            Property::always("S1", |_, state| kept(state, Vow::Unclaimed)),
            Property::always("S2", |_, state| kept(state, Vow::OneWrite)),
            Property::always("S3", |_, state| kept(state, Vow::Granted)),
            Property::always("S4", |storm, state| storm.rest(state).still),
            Property::always("S5", |_, state| kept(state, Vow::Deletion)),
            Property::always("S6", |storm, state| kept(state, Vow::Swap) && storm.rest(state).never_bare),
            Property::always("L1", |storm, state| storm.rest(state).as_declared),
            Property::always("R", |_, state| kept(state, Vow::Bare)),
            Property::always("E", |_, state| kept(state, Vow::Newest)),
        ]
    }
}
