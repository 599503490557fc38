//! The model's values: small, hashable, and turned into the controller's own types wherever its own code is run.
//!
//! Time is cut to what decisions depend on: whether something is settled, held off, old. `noon` is always now.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ec2::{Call, Power, Profile, Row, RowState};
use crate::api::binding::{
    Change as ApiChange, InstanceRoleBindingStatus, Operation, PlannedChange, ProfileOrNone,
};
use crate::api::condition::{ConditionType, Truth, condition, find, is_true};
use crate::decide::{
    Association, AssociationState, Cause, Grade, Instance, InstanceState, Place, ProfileRef, Reason, Rows,
    Tags, Trouble, TroubleKind, View, Write,
};
use crate::ec2::entry::{Entry, LastWrite};
use crate::ids::{AccountId, AssociationId, ProfileArn, Region};

/// An association of another instance.
pub const FOREIGN: u8 = 200;

pub fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

pub fn ago(seconds: i64) -> Timestamp {
    noon() - SignedDuration::from_secs(seconds)
}

pub fn here() -> Place {
    Place { account: AccountId::parse("123456789012").unwrap(), region: Region::parse("eu-west-1").unwrap() }
}

pub fn arn(profile: Profile) -> ProfileArn {
    ProfileArn::parse(&format!("arn:aws:iam::123456789012:instance-profile/team/{profile:?}")).unwrap()
}

pub fn by_arn(profile: Profile) -> ProfileRef {
    ProfileRef::Arn(arn(profile))
}

fn named(name: &str) -> Profile {
    [Profile::App, Profile::Old, Profile::Other]
        .into_iter()
        .find(|p| name.ends_with(&format!("{p:?}")))
        .unwrap()
}

fn of_ref(profile: &ProfileRef) -> Profile {
    named(profile.name())
}

/// A text of status: an ARN or `none`.
fn carried(text: &str) -> Option<Profile> {
    (text != "none").then(|| named(text))
}

fn text(carried: Option<Profile>) -> String {
    carried.map_or_else(|| "none".to_owned(), |profile| arn(profile).to_string())
}

fn association_id(id: u8) -> AssociationId {
    AssociationId::parse(&format!("iip-assoc-{id:03}")).unwrap()
}

fn number(id: &AssociationId) -> u8 {
    id.as_str().rsplit('-').next().unwrap().parse().unwrap()
}

/// A write as the controller decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Intent {
    pub call: Call,
    /// What the row carried, for all but Associate.
    pub from: Option<Profile>,
    /// What comes next, if it is the first half of a swap.
    pub then: Option<Profile>,
}

impl Intent {
    pub fn of(write: &Write) -> Self {
        match write {
            Write::Associate { profile } => {
                Self { call: Call::Associate(of_ref(profile)), from: None, then: None }
            }
            Write::Replace { association, from, profile } => Self {
                call: Call::Replace(number(association), of_ref(profile)),
                from: Some(of_ref(from)),
                then: None,
            },
            Write::Disassociate { association, from, then } => Self {
                call: Call::Disassociate(number(association)),
                from: Some(of_ref(from)),
                then: then.as_ref().map(of_ref),
            },
        }
    }

    pub fn write(self) -> Write {
        let from = || by_arn(self.from.unwrap());
        match self.call {
            Call::Associate(profile) => Write::Associate { profile: by_arn(profile) },
            Call::Replace(id, profile) => {
                Write::Replace { association: association_id(id), from: from(), profile: by_arn(profile) }
            }
            Call::Disassociate(id) => Write::Disassociate {
                association: association_id(id),
                from: from(),
                then: self.then.map(by_arn),
            },
        }
    }

    /// The profile that it attaches, or makes room for.
    pub fn brings(self) -> Option<Profile> {
        match self.call {
            Call::Associate(profile) | Call::Replace(_, profile) => Some(profile),
            Call::Disassociate(_) => self.then,
        }
    }

    pub fn association(self) -> Option<u8> {
        match self.call {
            Call::Associate(_) => None,
            Call::Replace(id, _) | Call::Disassociate(id) => Some(id),
        }
    }
}

/// One entry of `status.changes`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Change {
    pub operation: Operation,
    pub from: Option<Profile>,
    pub to: Option<Profile>,
    pub then: Option<Profile>,
    /// Which of all changes it is.
    pub serial: u8,
    pub confirmed: bool,
    /// It has settled.
    pub old: bool,
}

/// What of status decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Status {
    /// It speaks of the spec as it stands.
    pub observed: bool,
    pub place: bool,
    pub desired: Option<Option<Profile>>,
    pub previous: Option<Option<Profile>>,
    pub adopted: bool,
    pub synced: bool,
    /// The plan is to mend drift.
    pub drifting: bool,
    /// Nothing is planned, and EC2 is bringing about what was asked for.
    pub arriving: bool,
    pub changes: Vec<Change>,
}

/// What `gather::history` takes for a change of ours that EC2 is carrying out, where nothing is said of what is wanted.
fn is_arriving(real: &InstanceRoleBindingStatus) -> bool {
    let under_way = [Reason::Associating, Reason::Replacing, Reason::Disassociating].map(Reason::as_str);
    let synced = find(&real.conditions, ConditionType::Synced);
    let on_its_way = synced.is_some_and(|c| c.status == "False" && under_way.contains(&&*c.reason));
    on_its_way
        && real.plan.is_empty()
        && !real.changes.is_empty()
        && real.changes.iter().all(|change| change.request_id.is_some())
}

/// The generation of a spec that status does not speak of yet is one more.
pub const GENERATION: i64 = 7;

fn noted(carried: Option<Profile>) -> ProfileOrNone {
    ProfileOrNone {
        profile_arn: carried.map(|profile| arn(profile).to_string()),
        none: carried.is_none().then_some(true),
    }
}

fn of_noted(noted: &ProfileOrNone) -> Option<Profile> {
    noted.profile_arn.as_deref().map(named)
}

/// When a change of this serial was begun, for a process that knows the changes up to `started` from before its start.
pub fn begun(serial: u8, old: bool, started: u8) -> Timestamp {
    let base = if old { ago(7200) } else { ago(if serial <= started { 10 } else { 2 }) };
    base + SignedDuration::from_millis(serial.into())
}

/// When a process started.
pub fn started() -> Timestamp {
    ago(5)
}

impl Status {
    pub fn real(&self, since: u8) -> InstanceRoleBindingStatus {
        let truth = if self.synced { Truth::True } else { Truth::False };
        let reason = if self.arriving { Reason::Associating } else { Reason::Associated };
        let words = (reason.as_str(), String::new());
        let synced = condition(&[], ConditionType::Synced, truth, words, None, &Time(noon()));
        let plan = PlannedChange {
            operation: Operation::AssociateIamInstanceProfile,
            reason: Cause::DriftDetected.as_str().to_owned(),
        };
        InstanceRoleBindingStatus {
            observed_generation: self.observed.then_some(GENERATION),
            region: self.place.then(|| here().region.to_string()),
            account: self.place.then(|| here().account.to_string()),
            desired: self.desired.map(noted),
            previous: self.previous.map(noted),
            adopted: self.adopted.then_some(true),
            plan: self.drifting.then_some(plan).into_iter().collect(),
            conditions: vec![synced],
            changes: self
                .changes
                .iter()
                .map(|change| ApiChange {
                    operation: change.operation,
                    from: text(change.from),
                    to: text(change.to),
                    then: change.then.map(|profile| arn(profile).to_string()),
                    at: Time(begun(change.serial, change.old, since)),
                    request_id: change.confirmed.then(|| "id".to_owned()),
                })
                .collect(),
            ..InstanceRoleBindingStatus::default()
        }
    }

    pub fn of(real: &InstanceRoleBindingStatus) -> Self {
        Self {
            observed: real.observed_generation == Some(GENERATION),
            place: real.region.is_some(),
            desired: real.desired.as_ref().map(of_noted),
            previous: real.previous.as_ref().map(of_noted),
            adopted: real.adopted == Some(true),
            synced: is_true(&real.conditions, ConditionType::Synced),
            arriving: is_arriving(real),
            drifting: real.plan.first().is_some_and(|plan| plan.reason == Cause::DriftDetected.as_str()),
            changes: real
                .changes
                .iter()
                .map(|change| Change {
                    operation: change.operation,
                    from: carried(&change.from),
                    to: carried(&change.to),
                    then: change.then.as_deref().and_then(carried),
                    serial: u8::try_from(change.at.0.as_millisecond().rem_euclid(1000)).unwrap(),
                    confirmed: change.request_id.is_some(),
                    old: change.at.0 < ago(3600),
                })
                .collect(),
        }
    }

    /// The profile that a swap of ours took off, with nothing known to have come after it.
    pub fn swapped_out(&self) -> Option<Profile> {
        self.halves()[0]
    }

    /// The same, and the one that was to come next.
    pub fn halves(&self) -> [Option<Profile>; 2] {
        let detach = |c: &&Change| c.operation == Operation::DisassociateIamInstanceProfile;
        let half = self.changes.iter().find(|c| c.confirmed || detach(c)).filter(detach);
        half.filter(|half| half.then.is_some()).map_or([None; 2], |half| [half.from, half.then])
    }
}

/// A row as a process saw it, and for how long in this state: a moment, over two minutes, over five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    pub row: Row,
    pub age: u8,
}

const AGES: [i64; 3] = [1, 180, 400];

impl Seen {
    fn real(self) -> Association {
        Association {
            id: association_id(self.row.id),
            profile: arn(self.row.profile),
            profile_id: None,
            state: match self.row.state {
                RowState::Associating => AssociationState::Associating,
                RowState::Associated => AssociationState::Associated,
                RowState::Disassociating => AssociationState::Disassociating,
                RowState::Disassociated => AssociationState::Disassociated,
            },
            since: ago(AGES[usize::from(self.age)]),
        }
    }

    fn of(real: &Association) -> Self {
        let state = match real.state {
            AssociationState::Associating => RowState::Associating,
            AssociationState::Associated => RowState::Associated,
            AssociationState::Disassociating => RowState::Disassociating,
            AssociationState::Disassociated | AssociationState::Unknown(_) => RowState::Disassociated,
        };
        let age = AGES.iter().position(|age| real.since >= ago(*age)).unwrap();
        let (id, profile) = (number(&real.id), named(real.profile.name()));
        Self { row: Row { id, profile, state, stuck: false }, age: u8::try_from(age).unwrap() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trust {
    Listing,
    Unsettled,
    Settled,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sight {
    pub rows: Vec<Seen>,
    pub trust: Trust,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wrote {
    pub known: Option<Vec<u8>>,
    pub proved: bool,
    pub brought: Option<u8>,
    /// It, or one before it, may yet take effect.
    pub doubtful: bool,
    /// It has settled, and nobody looked since.
    pub over: bool,
}

/// What one process knows of the instance: `src/ec2/entry.rs`, whose code is run on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Known {
    pub view: Option<Sight>,
    pub wrote: Option<Wrote>,
    pub instance: Option<Power>,
    /// The look at the instance is young enough to write by.
    pub fresh: bool,
    /// The newest change that is accounted for.
    pub accounted: Option<u8>,
}

pub fn instance(power: Power) -> Instance {
    let state = match power {
        Power::Pending => InstanceState::Pending,
        Power::Running => InstanceState::Running,
        Power::Stopping => InstanceState::Stopping,
        Power::Stopped => InstanceState::Stopped,
        Power::Terminated => InstanceState::Terminated,
    };
    Instance::Present { state, managed: false, tags: Tags::default() }
}

impl Known {
    pub fn real(&self) -> Entry {
        let over = self.wrote.as_ref().is_some_and(|wrote| wrote.over);
        let began = ago(if over { 60 } else { 1 });
        Entry {
            view: self.view.as_ref().map(|view| View {
                rows: Rows::of(view.rows.iter().map(|seen| seen.real())),
                grade: match view.trust {
                    Trust::Listing => Grade::Listing,
                    Trust::Unsettled => Grade::Unsettled,
                    Trust::Settled => Grade::Settled,
                },
                began,
                ended: began,
            }),
            instance: self
                .instance
                .map(|power| Box::new((instance(power), ago(if self.fresh { 1 } else { 60 })))),
            write: self.wrote.as_ref().map(|wrote| {
                Box::new(LastWrite {
                    known: wrote.known.as_ref().map(|ids| ids.iter().map(|id| association_id(*id)).collect()),
                    settles: if over { ago(30) } else { ago(-10) },
                    proved: wrote.proved,
                    brought: wrote.brought.map(association_id),
                    in_doubt: wrote.doubtful.then(|| if over { ago(30) } else { ago(-10) }),
                })
            }),
            ..Entry::default()
        }
    }

    /// Runs the controller's own code on it.
    pub fn with(&mut self, change: impl FnOnce(&mut Entry)) {
        let mut entry = self.real();
        change(&mut entry);
        self.view = entry.view.as_ref().map(|view| {
            let rows = match &view.rows {
                Rows::Bare => vec![],
                Rows::One(row) | Rows::Leaving(row) => vec![row],
                Rows::Replacing { leaving, arriving } => vec![&**leaving, arriving],
                Rows::Unclear => panic!("EC2 never has two live rows"),
            };
            Sight {
                rows: rows.into_iter().map(Seen::of).collect(),
                trust: match view.grade {
                    Grade::Listing => Trust::Listing,
                    Grade::Unsettled => Trust::Unsettled,
                    Grade::Settled => Trust::Settled,
                },
            }
        });
        let over = |write: &LastWrite| write.settles < noon();
        self.wrote = entry.write.as_ref().map(|write| Wrote {
            known: write.known.as_ref().map(|ids| ids.iter().map(number).collect()),
            proved: write.proved,
            brought: write.brought.as_ref().map(number),
            doubtful: write.in_doubt.is_some_and(|until| until > noon()),
            over: over(write),
        });
    }

    pub fn looks(&mut self, rows: &[Row]) {
        let rows = rows.iter().map(|row| Some(Seen { row: *row, age: 0 }.real())).collect();
        self.with(|entry| entry.looked_up(rows, noon()));
    }

    pub fn lists(&mut self, rows: &[Row]) {
        let rows = rows.iter().map(|row| Some(Seen { row: *row, age: 0 }.real())).collect();
        self.with(|entry| entry.listed(rows, noon()));
    }

    pub fn wrote(&mut self, reply: Row, serial: u8) {
        self.with(|entry| entry.wrote(Some(Seen { row: reply, age: 0 }.real()), noon()));
        self.accounted = Some(serial);
    }

    pub fn wrote_perhaps(&mut self, serial: u8) {
        self.with(|entry| {
            let known = entry.ids();
            entry.unproved(Some(known), noon(), ago(-30));
        });
        self.accounted = Some(serial);
    }

    pub fn written_elsewhere(&mut self, serial: u8, at: Timestamp, until: Timestamp) {
        if self.accounted.is_none_or(|accounted| accounted < serial) {
            self.with(|entry| entry.unproved(None, at, until));
            self.accounted = Some(serial);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    ProfileInvalid,
    Denied,
    Overtaken,
    OutcomeUnknown,
}

/// A failure that has not healed; `memory.rs` counts them in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pain {
    pub kind: Kind,
    /// 1 to 3, which stands for more: nothing but that depends on it.
    pub count: u8,
    pub held: bool,
    /// For over two minutes.
    pub old: bool,
    /// What was to be attached.
    pub of: Option<Profile>,
    /// It failed last before the newest swap was begun.
    pub before_swap: bool,
}

impl Pain {
    pub fn after(before: Option<Self>, kind: Kind, of: Option<Profile>) -> Self {
        let count = before.map_or(0, |pain| pain.count) + 1;
        let old = before.is_some_and(|pain| pain.kind == kind && pain.old);
        Self { kind, count: count.min(3), held: true, old, of, before_swap: false }
    }

    pub fn real(self) -> Trouble {
        let kind = match self.kind {
            Kind::ProfileInvalid => TroubleKind::ProfileInvalid,
            Kind::Denied => TroubleKind::Denied("iam:PassRole".into()),
            Kind::Overtaken => TroubleKind::Overtaken,
            Kind::OutcomeUnknown => TroubleKind::OutcomeUnknown("timeout".into()),
        };
        Trouble {
            kind,
            since: ago(if self.old { 180 } else { 1 }),
            count: self.count.into(),
            of: self.of.map(by_arn),
            last: if self.before_swap { ago(100_000) } else { noon() },
            retry_at: ago(if self.held { -10 } else { 0 }),
        }
    }
}

/// Notes that are turned into the controller's types and back are the same.
#[test]
fn nothing_is_lost_on_the_way_to_the_controllers_types_and_back() {
    let change = Change {
        operation: Operation::DisassociateIamInstanceProfile,
        from: Some(Profile::Old),
        to: None,
        then: Some(Profile::App),
        serial: 9,
        confirmed: true,
        old: false,
    };
    let status = Status {
        observed: true,
        place: true,
        desired: Some(None),
        previous: Some(Some(Profile::Other)),
        adopted: true,
        synced: true,
        drifting: true,
        arriving: false,
        changes: vec![change.clone(), Change { old: true, confirmed: false, serial: 3, ..change }],
    };
    for since in [0, 5, 20] {
        assert_eq!(Status::of(&status.real(since)), status);
    }
    assert_eq!(status.swapped_out(), Some(Profile::Old));
    let row = |id, state| Seen { row: Row { id, profile: Profile::App, state, stuck: false }, age: 1 };
    let known = Known {
        view: Some(Sight {
            rows: vec![row(1, RowState::Disassociating), row(2, RowState::Associating)],
            trust: Trust::Unsettled,
        }),
        wrote: Some(Wrote {
            known: Some(vec![1]),
            proved: true,
            brought: Some(2),
            doubtful: true,
            over: false,
        }),
        ..Known::default()
    };
    let mut same = known.clone();
    same.with(|_| {});
    assert_eq!(same, known);
    for intent in [
        Intent { call: Call::Associate(Profile::App), from: None, then: None },
        Intent { call: Call::Replace(3, Profile::App), from: Some(Profile::Old), then: None },
        Intent { call: Call::Disassociate(FOREIGN), from: Some(Profile::Old), then: Some(Profile::App) },
    ] {
        assert_eq!(Intent::of(&intent.write()), intent);
    }
}
