//! A small EC2 and a small driver, to follow the steps until they lead nowhere further.
//!
//! The EC2 here has the rules of `aws-semantics` 1.3: states that take time, a new id on Replace, refusals by
//! instance state and association id, a profile id that outlives its profile, views that show the past after a
//! reply was lost. The driver does what `src/controller` does with a step, and forgets its memory in a crash.

use jiff::Timestamp;

use super::fixtures::*;
use super::law::Law;
use crate::api::binding::{Mode, Operation};
use crate::decide::*;

/// What is wrong with the world, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    /// IAM has no such profile.
    ProfileMissing,
    /// The profile holds no role.
    ProfileWithoutRole,
    /// EC2 may not assume the role.
    TrustBroken,
    /// The controller may not pass the role.
    PassDenied,
    /// … and the dry run did not tell, once.
    PassDeniedUnforeseen,
    /// EC2 learns of the profile after so many seconds; `i64::MAX` is never.
    Propagates(i64),
    /// The profile was made again after it was attached.
    MadeAgain,
    /// Replace is refused for ever: the old row stays `associating`.
    StuckArriving,
    /// The old row stays `disassociating` for ever, and Associate is refused.
    StuckLeaving,
}

/// How one write fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    Fine,
    /// It lands, and the reply is lost.
    ReplyLost,
    Throttled,
    Unavailable,
}

/// What others do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Stop,
    Start,
    Terminate,
    OutsiderReplaces,
    OutsiderDetaches,
    /// The controller forgets what is not in status.
    Crash,
    /// The administrator takes every grant away.
    GrantGone,
    /// … or narrows them to what was there before the binding came.
    GrantNarrowed,
    /// … or forbids that instances have no profile.
    NoneForbidden,
    /// … or grants again what was granted at first.
    GrantBack,
    /// Somebody takes the tags off, or puts them on again.
    Untag,
    Retag,
    /// Somebody makes it a node of a cluster.
    BecomesNode,
}

#[derive(Debug, Clone)]
pub struct Play {
    pub story: Story,
    pub fault: Fault,
    /// Consumed write by write; then all is fine.
    pub luck: Vec<Luck>,
    /// Events before the step of this number.
    pub events: Vec<(usize, Event)>,
    pub state: &'static str,
    pub rows: Vec<Association>,
    pub writes: Vec<Write>,
    /// What was granted at first.
    pub law: Law,
    pub tags: Tags,
    /// Whether the instance is looked at only where a decision asks for it, or tags decide.
    pub sparing: bool,
    looking: bool,
    began: Timestamp,
    state_since: Timestamp,
    steps: usize,
    made: u32,
    missing_since: Timestamp,
    /// The rows before a write whose reply was lost, and until when they may be shown.
    past: Option<(Vec<Association>, Timestamp)>,
    synced: bool,
    drifting: bool,
    foreseen: u32,
}

impl Play {
    /// Begins with the rows that the story tells.
    pub fn new(story: Story, state: &'static str, fault: Fault) -> Self {
        let began = story.now;
        let foreseen = u32::from(fault != Fault::PassDeniedUnforeseen);
        let mut play = Self {
            rows: story.rows.clone(),
            law: story.law.clone(),
            tags: Self::tags(),
            sparing: false,
            looking: true,
            story,
            fault,
            luck: Vec::new(),
            events: Vec::new(),
            state,
            writes: Vec::new(),
            began,
            state_since: began,
            steps: 0,
            made: 0,
            missing_since: began,
            past: None,
            synced: false,
            drifting: false,
            foreseen,
        };
        play.story.history.place = Some(here());
        play
    }

    fn tags() -> Tags {
        [("team", "a")].into_iter().collect()
    }

    pub fn with(self, luck: Vec<Luck>, events: Vec<(usize, Event)>) -> Self {
        Self { luck, events, ..self }
    }

    /// How many steps were taken.
    pub fn steps(&self) -> usize {
        self.steps
    }

    pub fn live(&self) -> Option<&Association> {
        self.rows.iter().find(|row| is_live(row))
    }

    pub fn carries(&self) -> Option<&str> {
        self.live().map(|row| row.profile.name())
    }

    /// Follows the steps for so many minutes, then answers with what was last told between writes. A released one
    /// ends early.
    pub fn follow(&mut self, length: i64) -> Decision {
        let end = self.story.now + minutes(length);
        let mut looks = 0;
        loop {
            let decision = self.step();
            looks = if matches!(decision.step, Step::Look(_)) { looks + 1 } else { 0 };
            assert!(looks < 3, "looking and looking: {decision:?} {self:#?}");
            let under_way = matches!(decision.step, Step::Write(_) | Step::Look(_));
            if self.story.now >= end && !under_way || matches!(decision.step, Step::Release(_)) {
                return decision;
            }
        }
    }

    pub fn step(&mut self) -> Decision {
        for event in
            self.events.extract_if(.., |(at, _)| *at == self.steps).map(|(_, e)| e).collect::<Vec<_>>()
        {
            self.happens(event);
        }
        self.steps += 1;
        self.look();
        let decision = self.story.decide();
        let asked = matches!(&decision.step, Step::Look(Evidence { instance: true, .. }));
        // Where tags decide, each pass reads them.
        self.looking = !self.sparing || asked || decision.authority.by_tag();
        match &decision.step {
            Step::Write(write) => {
                self.drifting =
                    decision.plan.first().is_some_and(|(_, cause)| *cause == Cause::DriftDetected);
                self.perform(write.clone());
                self.pass(seconds(1));
            }
            Step::Look(_) => self.pass(seconds(1)),
            Step::Converged | Step::Wait | Step::Refuse | Step::Hold | Step::Release(_) => {
                self.note(&decision);
                let idle = matches!(self.state, "running" | "stopped") && self.past.is_none();
                let moving = self.rows.iter().any(|row| row.state != AssociationState::Associated);
                self.pass(seconds(if idle && !moving && self.steps > 60 { 30 } else { 4 }));
            }
        }
        decision
    }

    fn happens(&mut self, event: Event) {
        let now = self.story.now;
        match event {
            Event::Stop if self.state == "running" => self.becomes("stopping"),
            Event::Start if self.state == "stopped" => self.becomes("pending"),
            Event::Terminate => {
                self.becomes("terminated");
                self.rows.clear();
            }
            Event::OutsiderReplaces if self.state == "running" && self.live().is_some() => {
                self.leave(now);
                self.arrive(arn(OTHER), 1);
            }
            Event::OutsiderDetaches => self.detach_live(now),
            Event::Crash => self.story.trouble = None,
            Event::GrantGone => self.story.law = self.law.without_grants(),
            Event::GrantNarrowed => {
                self.story.law = self.law.narrowed_to("arn:aws:iam::123456789012:instance-profile/team/Old")
            }
            Event::NoneForbidden => self.story.law = self.law.never_none(),
            Event::GrantBack => self.story.law = self.law.clone(),
            Event::Untag => self.tags = Tags::default(),
            Event::Retag => self.tags = Self::tags(),
            Event::BecomesNode => {
                self.tags = [("team", "a"), ("kubernetes.io/cluster/one", "owned")].into_iter().collect();
            }
            Event::Stop | Event::Start | Event::OutsiderReplaces => {}
        }
    }

    fn becomes(&mut self, state: &'static str) {
        self.state = state;
        self.state_since = self.story.now;
    }

    /// Time goes by, and what is under way gets done.
    fn pass(&mut self, time: jiff::SignedDuration) {
        self.story.now += time;
        let now = self.story.now;
        let old = |since: Timestamp, age| now.duration_since(since) >= seconds(age);
        match self.state {
            "pending" if old(self.state_since, 8) => self.becomes("running"),
            "stopping" if old(self.state_since, 8) => self.becomes("stopped"),
            _ => {}
        }
        let (fault, running) = (self.fault, self.state == "running");
        let stuck = |row: &Association| {
            row.profile == arn(OLD) && matches!(fault, Fault::StuckArriving | Fault::StuckLeaving)
        };
        let untrusted = |row: &Association| row.profile == arn(APP) && fault == Fault::TrustBroken;
        self.rows.retain(|row| is_live(row) || stuck(row) || !old(row.since, 3));
        for row in &mut self.rows {
            let arrives = row.state == AssociationState::Associating && running && old(row.since, 4);
            if arrives && !stuck(row) && !untrusted(row) {
                row.state = AssociationState::Associated;
                row.since = now;
            }
        }
    }

    fn look(&mut self) {
        let now = self.story.now;
        let (rows, grade) = match &self.past {
            Some((rows, until)) if now < *until => (rows.clone(), Grade::Unsettled),
            Some(_) | None => (self.rows.clone(), Grade::Settled),
        };
        self.story.rows = rows;
        self.story.grade = Some(grade);
        self.story.began = now - seconds(1);
        let instance = match self.state {
            "absent" => Instance::Absent,
            state => Instance::Present { state: state.into(), managed: false, tags: self.tags.clone() },
        };
        if std::mem::take(&mut self.looking) {
            self.story.seen = Some(instance.clone());
            self.story.instance = Some(instance);
        } else {
            self.story.instance = None;
        }
        let missing =
            Resolution::Missing { told: "IAM has no App".into(), really: None, since: self.missing_since };
        self.story.resolution = match (std::mem::replace(&mut self.story.resolution, missing), self.fault) {
            (Resolution::NoProfile, _) => Resolution::NoProfile,
            (other, Fault::ProfileMissing) => match other {
                Resolution::Missing { .. } => other,
                _ => std::mem::replace(&mut self.story.resolution, Resolution::NotAsked),
            },
            _ => Resolution::Found(Target {
                profile: by_arn(APP),
                id: Some(profile_id(APP, self.generation())),
                has_role: Some(self.fault != Fault::ProfileWithoutRole),
                as_of: now,
            }),
        };
        self.story.history.was_in_sync = self.synced || self.drifting;
    }

    fn generation(&self) -> u8 {
        if self.fault == Fault::MadeAgain { 2 } else { 1 }
    }

    /// What the status remembers of a pass.
    fn note(&mut self, decision: &Decision) {
        if self.story.leaving.is_some() {
            return;
        }
        self.drifting = decision.plan.first().is_some_and(|(_, cause)| *cause == Cause::DriftDetected);
        if let Authority::Refused { .. } = decision.authority {
            // Nothing of the instance is told, so nothing of it is remembered.
            (self.synced, self.drifting, self.story.history.desired) = (false, false, None);
            return;
        }
        if let Some(synced) = decision.in_sync {
            self.synced = synced && matches!(decision.step, Step::Converged);
        }
        self.story.history.adopted |= self.synced;
        self.story.history.desired = match &self.story.resolution {
            Resolution::NoProfile => Some(Carried::Nothing),
            Resolution::Found(target) => Some(Carried::Profile(target.profile.clone())),
            _ => None,
        };
        if matches!(decision.step, Step::Converged) {
            self.story.trouble = None;
        }
    }

    /// Intent before effect, then the call, then what came of it.
    fn perform(&mut self, write: Write) {
        let now = self.story.now;
        assert!(self.story.desired.mode == Mode::Enforce && !self.story.desired.suspend);
        let read = self.story.instance.clone().unwrap();
        assert!(self.story.law.allows(&self.story, &write, &read), "no grant allows {write:?}: {self:#?}");
        if let Write::Disassociate { then: Some(profile), .. } = &write {
            let refusal = self.refuses(profile);
            let told = self.fault != Fault::PassDeniedUnforeseen || self.foreseen > 0;
            self.foreseen += 1;
            if let (Some(kind), true) = (refusal, told) {
                return self.failed(kind, Some(profile.clone()));
            }
        }
        let history = &mut self.story.history;
        let before =
            self.rows.iter().find(|r| is_live(r)).map_or(Carried::Nothing, |r| carried(r.profile.name()));
        history.previous.get_or_insert(before);
        let change = PastChange {
            operation: write.operation(),
            from: write.from(),
            to: write.to(),
            then: write.then().cloned(),
            at: now,
            confirmed: false,
        };
        history.changes.insert(0, change);
        history.changes.truncate(5);
        let luck = if self.luck.is_empty() { Luck::Fine } else { self.luck.remove(0) };
        let before = self.rows.clone();
        let result = match luck {
            Luck::Throttled => Err(TroubleKind::Throttled),
            Luck::Unavailable => Err(TroubleKind::Unavailable("503".into())),
            Luck::Fine | Luck::ReplyLost => self.call(&write),
        };
        let of = trouble::brought(&write).cloned();
        self.writes.push(write);
        match (result, luck) {
            (Ok(_), Luck::ReplyLost) => {
                self.past = Some((before, now + seconds(30)));
                self.failed(TroubleKind::OutcomeUnknown("timeout".into()), of);
            }
            (Ok(unchanged), _) => {
                self.past = None;
                self.story.history.changes[0].confirmed = true;
                if unchanged {
                    self.failed(TroubleKind::Unchanged, of);
                } else {
                    self.story.trouble = None;
                }
            }
            (Err(kind), _) => {
                self.story.history.changes.remove(0);
                self.failed(kind, of);
            }
        }
        assert!(self.rows.iter().filter(|row| is_live(row)).count() <= 1, "two live rows: {self:#?}");
    }

    fn failed(&mut self, kind: TroubleKind, of: Option<ProfileRef>) {
        let now = self.story.now;
        let same = |t: &Trouble| std::mem::discriminant(&t.kind) == std::mem::discriminant(&kind);
        let before = self.story.trouble.take().filter(same);
        let count = before.as_ref().map_or(0, |t| t.count) + 1;
        let retry_at = now + kind.hold_off(count);
        let since = before.map_or(now, |t| t.since);
        self.story.trouble = Some(Trouble { since, kind, count, retry_at, last: now, of });
    }

    // EC2.

    /// What syntax, authorisation and existence have against attaching this profile.
    fn refuses(&self, profile: &ProfileRef) -> Option<TroubleKind> {
        match self.fault {
            _ if profile.name() != APP => None,
            Fault::PassDenied | Fault::PassDeniedUnforeseen => {
                Some(TroubleKind::Denied("iam:PassRole on role/App".into()))
            }
            Fault::ProfileMissing => Some(TroubleKind::ProfileInvalid),
            Fault::Propagates(after) if self.story.now.duration_since(self.began).as_secs() < after => {
                Some(TroubleKind::ProfileInvalid)
            }
            _ => None,
        }
    }

    /// Answers whether the association stayed what it was.
    fn call(&mut self, write: &Write) -> Result<bool, TroubleKind> {
        let now = self.story.now;
        let takes_changes = matches!(self.state, "running" | "stopped");
        let rows = self.rows.clone();
        let row_of = |id: &crate::ids::AssociationId| rows.iter().position(|row| row.id == *id);
        match write {
            Write::Associate { profile } | Write::Replace { profile, .. } => {
                if let Some(kind) = self.refuses(profile) {
                    return Err(kind);
                }
                let ProfileRef::Arn(arn) = profile.clone() else { panic!("the model resolves names") };
                let generation = if arn.name() == APP { self.generation() } else { 1 };
                match write {
                    Write::Replace { association, .. } => {
                        let row = row_of(association).map(|at| rows[at].clone()).filter(is_live);
                        let Some(row) =
                            row.filter(|_| self.state == "running" && self.fault != Fault::StuckArriving)
                        else {
                            return Err(TroubleKind::Overtaken);
                        };
                        if row.profile == arn {
                            return Ok(true);
                        }
                        self.leave(now);
                        self.arrive(arn, generation);
                    }
                    _ => {
                        let stuck = self.fault == Fault::StuckLeaving && !self.rows.is_empty();
                        if !takes_changes || self.live().is_some() || stuck {
                            return Err(TroubleKind::Overtaken);
                        }
                        self.arrive(arn, generation);
                    }
                }
            }
            Write::Disassociate { association, .. } => {
                let Some(at) = row_of(association).filter(|_| takes_changes) else {
                    return Err(TroubleKind::Overtaken);
                };
                if is_live(&self.rows[at]) && self.fault != Fault::StuckArriving {
                    self.detach_live(now);
                } else {
                    self.rows.remove(at);
                }
            }
        }
        Ok(false)
    }

    fn leave(&mut self, now: Timestamp) {
        for row in self.rows.iter_mut().filter(|row| is_live(row)) {
            row.state = AssociationState::Disassociating;
            row.since = now;
        }
    }

    fn detach_live(&mut self, now: Timestamp) {
        if self.state == "stopped" {
            self.rows.retain(|row| !is_live(row));
        } else {
            self.leave(now);
        }
    }

    fn arrive(&mut self, profile: crate::ids::ProfileArn, generation: u8) {
        self.made += 1;
        self.rows.push(Association {
            id: association_id(&format!("new{}", self.made)),
            profile_id: Some(profile_id(profile.name(), generation)),
            profile,
            state: AssociationState::Associating,
            since: self.story.now,
        });
    }
}

pub fn is_live(row: &Association) -> bool {
    matches!(row.state, AssociationState::Associating | AssociationState::Associated)
}

#[test]
fn the_model_swaps_on_a_stopped_instance() {
    let mut play = Play::new(want(APP).carrying(OLD), "stopped", Fault::Nothing);
    play.events = vec![(8, Event::Start)];
    assert_eq!(play.follow(5).step, Step::Converged);
    let done: Vec<Operation> = play.writes.iter().map(Write::operation).collect();
    assert_eq!(done, [Operation::DisassociateIamInstanceProfile, Operation::AssociateIamInstanceProfile]);
    assert_eq!(play.story.history.previous, Some(carried(OLD)));
}

#[test]
fn a_stuck_association_is_cleared() {
    for (state, fault) in [("disassociating", Fault::StuckLeaving), ("associating", Fault::StuckArriving)] {
        let mut play = Play::new(want(APP).row(OLD, state), "running", fault);
        let detached = |play: &Play| {
            play.writes.iter().filter(|w| w.operation() == Operation::DisassociateIamInstanceProfile).count()
        };
        assert_ne!(play.follow(5).step, Step::Converged);
        assert_eq!(detached(&play), 0, "not within five minutes");
        play.follow(2);
        assert_eq!(detached(&play), 1, "{:?}", play.writes);
        play.fault = Fault::Nothing;
        assert_eq!(play.follow(3).step, Step::Converged);
        assert_eq!(detached(&play), 1, "{:?}", play.writes);
    }
}
