//! Worlds that read as prose: `want(APP).running().carrying(OLD)`.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::law::Law;
use crate::api::binding::{AdoptionPolicy, DeletionPolicy, Mode, Operation, WhenStopped};
use crate::decide::*;
use crate::ids::{AccountId, AssociationId, InstanceId, ProfileArn, ProfileId, ProfileName, Region};

/// The profile that is declared, the one that is there, and one of somebody else.
pub const APP: &str = "App";
pub const OLD: &str = "Old";
pub const OTHER: &str = "Other";

pub fn noon() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

pub fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

pub fn minutes(n: i64) -> SignedDuration {
    SignedDuration::from_mins(n)
}

pub fn arn(name: &str) -> ProfileArn {
    ProfileArn::parse(&format!("arn:aws:iam::123456789012:instance-profile/team/{name}")).unwrap()
}

pub fn by_arn(name: &str) -> ProfileRef {
    ProfileRef::Arn(arn(name))
}

pub fn by_name(name: &str) -> ProfileRef {
    ProfileRef::Name(ProfileName::parse(name).unwrap())
}

pub fn carried(name: &str) -> Carried {
    Carried::Profile(by_arn(name))
}

/// The unique id of the `nth` profile that was made under the name.
pub fn profile_id(name: &str, nth: u8) -> ProfileId {
    ProfileId::parse(&format!("AIPA000000000{nth:02}{name}")).unwrap()
}

pub fn association_id(tail: &str) -> AssociationId {
    AssociationId::parse(&format!("iip-assoc-{tail}")).unwrap()
}

/// An association whose id is made from its profile's name.
pub fn association(name: &str, state: &str) -> Association {
    Association {
        id: association_id(name),
        profile: arn(name),
        profile_id: Some(profile_id(name, 1)),
        state: state.into(),
        since: noon() - seconds(10),
    }
}

pub fn here() -> Place {
    Place { account: AccountId::parse("123456789012").unwrap(), region: Region::parse("eu-west-1").unwrap() }
}

pub fn elsewhere() -> Place {
    Place { region: Region::parse("us-east-1").unwrap(), ..here() }
}

/// Everything that one decision is made from, owned. It begins with nothing attached and nothing looked at but
/// the associations.
#[derive(Debug, Clone)]
pub struct Story {
    pub desired: Desired,
    pub resolution: Resolution,
    pub place: Place,
    /// Who was given what.
    pub law: Law,
    pub history: History,
    pub rows: Vec<Association>,
    /// The grade of the view, or nothing before the first look.
    pub grade: Option<Grade>,
    pub began: Timestamp,
    pub instance: Option<Instance>,
    /// What an older look at the instance showed, where that differs.
    pub seen: Option<Instance>,
    pub standing: Standing,
    pub trouble: Option<Trouble>,
    pub restraint: Restraint,
    pub leaving: Option<Leaving>,
    pub now: Timestamp,
}

/// A grant, as an administrator writes its spec.
pub fn grant(name: &str, spec: serde_json::Value) -> Arc<Grant> {
    Arc::new(Grant::parse(name, &serde_json::from_value(spec).unwrap()).unwrap())
}

fn story(declared: Declared, resolution: Resolution) -> Story {
    Story {
        desired: Desired {
            instance: InstanceId::parse("i-0123456789abcdef0").unwrap(),
            declared,
            mode: Mode::Enforce,
            adoption: AdoptionPolicy::Replace,
            when_stopped: WhenStopped::DetachThenAttach,
            deletion: DeletionPolicy::Detach,
            suspend: false,
            dry_run: false,
        },
        resolution,
        place: here(),
        law: Law::all(),
        history: History::default(),
        rows: Vec::new(),
        grade: Some(Grade::Settled),
        began: noon() - seconds(2),
        instance: None,
        seen: None,
        standing: Standing::Winner,
        trouble: None,
        restraint: Restraint::default(),
        leaving: None,
        now: noon(),
    }
}

/// Declared by ARN, found in IAM by a look that began after the one at EC2, and holding a role.
pub fn want(name: &str) -> Story {
    let target = Target {
        profile: by_arn(name),
        id: Some(profile_id(name, 1)),
        has_role: Some(true),
        as_of: noon() - seconds(1),
    };
    story(Declared::Arn(arn(name)), Resolution::Found(target))
}

/// Declared by name where the controller may not read IAM.
pub fn want_by_name_alone(name: &str) -> Story {
    let target = Target { profile: by_name(name), id: None, has_role: None, as_of: noon() - seconds(1) };
    story(Declared::Name(ProfileName::parse(name).unwrap()), Resolution::Found(target))
}

pub fn want_none() -> Story {
    story(Declared::NoProfile, Resolution::NoProfile)
}

impl Story {
    // What is wanted.

    pub fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn resolved_as(self, resolution: Resolution) -> Self {
        self.but(|s| s.resolution = resolution)
    }

    fn target(self, change: impl FnOnce(&mut Target)) -> Self {
        self.but(|s| match &mut s.resolution {
            Resolution::Found(target) => change(target),
            other => panic!("no target in {other:?}"),
        })
    }

    pub fn without_role(self) -> Self {
        self.target(|t| t.has_role = Some(false))
    }

    /// IAM now has the second profile of this name.
    pub fn made_again(self) -> Self {
        self.target(|t| t.id = Some(profile_id(t.profile.name(), 2)))
    }

    pub fn with_iam_looked_at(self, at: Timestamp) -> Self {
        self.target(|t| t.as_of = at)
    }

    pub fn observing(self) -> Self {
        self.but(|s| s.desired.mode = Mode::Observe)
    }

    pub fn suspended(self) -> Self {
        self.but(|s| s.desired.suspend = true)
    }

    pub fn only_if_none(self) -> Self {
        self.but(|s| s.desired.adoption = AdoptionPolicy::OnlyIfNone)
    }

    pub fn wait_for_running(self) -> Self {
        self.but(|s| s.desired.when_stopped = WhenStopped::WaitForRunning)
    }

    pub fn on_deletion(self, policy: DeletionPolicy) -> Self {
        self.but(|s| s.desired.deletion = policy)
    }

    // Who was given what.

    pub fn under(self, law: Law) -> Self {
        self.but(|s| s.law = law)
    }

    // What EC2 shows.

    pub fn running(self) -> Self {
        self.instance_is("running")
    }

    pub fn stopped(self) -> Self {
        self.instance_is("stopped")
    }

    pub fn instance_is(self, state: &str) -> Self {
        let instance = Instance::Present { state: state.into(), managed: false, tags: Tags::default() };
        self.but(|s| s.instance = Some(instance))
    }

    pub fn absent(self) -> Self {
        self.but(|s| s.instance = Some(Instance::Absent))
    }

    pub fn managed(self) -> Self {
        let state = InstanceState::Running;
        self.but(|s| {
            s.instance = Some(Instance::Present { state, managed: true, tags: Tags::default() });
        })
    }

    /// The instance carries these tags; it runs, unless another state was told.
    pub fn tagged<const N: usize>(self, pairs: [(&str, &str); N]) -> Self {
        self.but(|s| match s.instance.get_or_insert_with(running) {
            Instance::Present { tags, .. } => *tags = pairs.into_iter().collect(),
            other => panic!("no tags on {other:?}"),
        })
    }

    /// The instance was looked at once, too long ago to write by it.
    pub fn looked_at_long_ago(self) -> Self {
        self.but(|s| s.seen = s.instance.take())
    }

    /// Associated with this profile.
    pub fn carrying(self, name: &str) -> Self {
        self.row(name, "associated")
    }

    pub fn attaching(self, name: &str) -> Self {
        self.row(name, "associating")
    }

    pub fn losing(self, name: &str) -> Self {
        self.row(name, "disassociating")
    }

    pub fn row(self, name: &str, state: &str) -> Self {
        self.but(|s| s.rows.push(association(name, state)))
    }

    /// How long the row that was named last has been in its state.
    pub fn for_the_last(self, age: SignedDuration) -> Self {
        self.but(|s| s.rows.last_mut().unwrap().since = s.now - age)
    }

    pub fn seen_in_a_listing(self) -> Self {
        self.but(|s| s.grade = Some(Grade::Listing))
    }

    pub fn seen_unsettled(self) -> Self {
        self.but(|s| s.grade = Some(Grade::Unsettled))
    }

    pub fn not_looked_at(self) -> Self {
        self.but(|s| s.grade = None)
    }

    // What is remembered, and the rest of the world.

    pub fn adopted(self) -> Self {
        self.but(|s| s.history.adopted = true)
    }

    /// It was as declared, so that a difference is drift.
    pub fn was_in_sync(self) -> Self {
        self.adopted().but(|s| s.history.was_in_sync = true)
    }

    pub fn last_wanted(self, what: Carried) -> Self {
        self.but(|s| s.history.desired = Some(what))
    }

    pub fn found_first(self, what: Carried) -> Self {
        self.but(|s| s.history.previous = Some(what))
    }

    fn changed(self, operation: Operation, from: Carried, to: Carried) -> Self {
        self.but(|s| {
            let change =
                PastChange { operation, from, to, then: None, at: s.now - seconds(3), confirmed: true };
            s.history.changes.insert(0, change);
        })
    }

    pub fn after_attaching(self, name: &str) -> Self {
        self.changed(Operation::AssociateIamInstanceProfile, Carried::Nothing, carried(name))
    }

    pub fn after_replacing(self, from: &str, to: &str) -> Self {
        self.changed(Operation::ReplaceIamInstanceProfileAssociation, carried(from), carried(to))
    }

    pub fn after_detaching(self, name: &str) -> Self {
        self.changed(Operation::DisassociateIamInstanceProfile, carried(name), Carried::Nothing)
    }

    /// The first half of a swap: this one off, to attach what is declared.
    pub fn after_swapping_out(self, name: &str) -> Self {
        self.after_detaching(name).but(|s| {
            let then = ProfileRef::parse("arn:aws:iam::123456789012:instance-profile/team/App");
            s.history.changes.first_mut().unwrap().then = then;
        })
    }

    pub fn carried_out_in(self, place: Place) -> Self {
        self.but(|s| s.history.place = Some(place))
    }

    pub fn losing_to(self, winner: Option<&str>) -> Self {
        let winner = winner.map(ToOwned::to_owned);
        self.but(|s| s.standing = Standing::Loser { winner })
    }

    /// The `count`th failure of this kind came just now, and the first one `ago`.
    pub fn after_failing(self, kind: TroubleKind, count: u32, ago: SignedDuration) -> Self {
        self.but(|s| {
            let retry_at = s.now + kind.hold_off(count);
            let of = match &s.resolution {
                Resolution::Found(target) => Some(target.profile.clone()),
                _ => None,
            };
            s.trouble = Some(Trouble { kind, since: s.now - ago, count, retry_at, last: s.now, of });
        })
    }

    /// What failed was to attach this one.
    pub fn when_attaching(self, name: &str) -> Self {
        self.but(|s| s.trouble.as_mut().unwrap().of = Some(by_arn(name)))
    }

    /// It failed last before the newest change was begun.
    pub fn before_the_last_change(self) -> Self {
        self.but(|s| s.trouble.as_mut().unwrap().last = s.history.changes[0].at - seconds(2))
    }

    /// The hold-off is over.
    pub fn held_off_long_enough(self) -> Self {
        self.but(|s| s.trouble.as_mut().unwrap().retry_at = s.now)
    }

    // Deletion.

    pub fn deleted(self) -> Self {
        self.deleted_since(seconds(1))
    }

    pub fn deleted_since(self, ago: SignedDuration) -> Self {
        self.but(|s| {
            let since = s.now - ago;
            s.leaving = Some(Leaving { since, has_finalizer: true, forced: false, successor: None });
        })
    }

    fn leaving(self, change: impl FnOnce(&mut Leaving)) -> Self {
        self.but(|s| change(s.leaving.as_mut().unwrap()))
    }

    pub fn by_force(self) -> Self {
        self.leaving(|l| l.forced = true)
    }

    pub fn without_finalizer(self) -> Self {
        self.leaving(|l| l.has_finalizer = false)
    }

    pub fn followed_by(self, successor: Successor) -> Self {
        self.leaving(|l| l.successor = Some(successor))
    }

    // The answer.

    pub fn observed(&self) -> Observed {
        let view = self.grade.map(|grade| View {
            rows: Rows::of(self.rows.clone()),
            grade,
            began: self.began,
            ended: self.began,
        });
        Observed {
            view,
            instance: self.instance.clone(),
            seen: self.seen.clone().or_else(|| self.instance.clone()),
        }
    }

    pub fn decide(&self) -> Decision {
        match self.law.entitle(self) {
            Ok(rights) => self.decide_by(&rights),
            Err(lack) => without_rights(&self.desired, self.leaving.as_ref(), &lack),
        }
    }

    /// By these rights, whatever the law.
    pub fn decide_by(&self, rights: &Rights) -> Decision {
        decide(
            &Case {
                desired: &self.desired,
                resolution: &self.resolution,
                place: &self.place,
                rights,
                history: &self.history,
                observed: &self.observed(),
                standing: &self.standing,
                trouble: self.trouble.as_ref(),
                restraint: &self.restraint,
                leaving: self.leaving.as_ref(),
            },
            self.now,
        )
    }

    pub fn written(&self) -> Option<Write> {
        match self.decide().step {
            Step::Write(write) => Some(write),
            _ => None,
        }
    }
}

fn running() -> Instance {
    Instance::Present { state: InstanceState::Running, managed: false, tags: Tags::default() }
}

/// The step and the reason that a story ends with.
pub type Expected = (Step, Reason);

/// Runs the stories of one row of the table.
pub fn tell(stories: impl IntoIterator<Item = (&'static str, Story, Expected)>) {
    for (title, story, expected) in stories {
        let decision = story.decide();
        assert_eq!((decision.step.clone(), decision.reason), expected, "{title}: {decision:#?}");
    }
}

pub fn in_sync() -> Expected {
    (Step::Converged, Reason::Associated)
}

pub fn in_sync_without_profile() -> Expected {
    (Step::Converged, Reason::Disassociated)
}

pub fn wait(reason: Reason) -> Expected {
    (Step::Wait, reason)
}

pub fn refuse(reason: Reason) -> Expected {
    (Step::Refuse, reason)
}

pub fn hold() -> Expected {
    (Step::Hold, Reason::Suspended)
}

pub fn associate(name: &str) -> Expected {
    (Step::Write(Write::Associate { profile: by_arn(name) }), Reason::Associating)
}

pub fn replace(from: &str, to: &str) -> Expected {
    let write = Write::Replace { association: association_id(from), from: by_arn(from), profile: by_arn(to) };
    (Step::Write(write), Reason::Replacing)
}

pub fn take_off(name: &str) -> Expected {
    disassociate(name, None)
}

/// The first half of a swap on a stopped instance.
pub fn swap(from: &str, to: &str) -> Expected {
    disassociate(from, Some(by_arn(to)))
}

fn disassociate(name: &str, then: Option<ProfileRef>) -> Expected {
    let write = Write::Disassociate { association: association_id(name), from: by_arn(name), then };
    (Step::Write(write), Reason::Disassociating)
}

pub fn released(how: Farewell) -> Expected {
    (Step::Release(how), Reason::Disassociated)
}

pub const ASSOCIATIONS: Evidence = Evidence { associations: true, instance: false, profile: false };
pub const INSTANCE: Evidence = Evidence { associations: false, instance: true, profile: false };
pub const PROFILE: Evidence = Evidence { associations: false, instance: false, profile: true };
pub const BOTH_OF_EC2: Evidence = Evidence { associations: true, instance: true, profile: false };
pub const EVERYTHING: Evidence = Evidence { associations: true, instance: true, profile: true };

pub fn look(evidence: Evidence) -> Expected {
    (Step::Look(evidence), Reason::AWSUnavailable)
}
