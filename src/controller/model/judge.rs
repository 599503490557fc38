//! One judgement: `decide` as it is, with `report` and `gather::history` around it, from small values to small values.
//! All of it is pure, so what was judged once is remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::ec2::Profile;
use super::mutants::Mutant;
use super::small::{GENERATION, Intent, Known, Pain, Status, ago, arn, by_arn, here, noon};
use crate::api::InstanceRoleBinding;
use crate::api::binding::{AdoptionPolicy, DeletionPolicy, InstanceRoleBindingSpec, Mode, WhenStopped};
use crate::controller::gather::{self, Facts};
use crate::controller::reconcile::finalizer_due;
use crate::controller::report::Report;
use crate::decide::{
    Carried, Ceiling, Circuit, Declared, Desired, Grant, Lack, Leaving, OutsideChange, Outsiders, Resolution,
    Restraint, Rights, Standing, Step, Successor, Target, without_rights,
};
use crate::ids::InstanceId;
use jiff::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Zeal {
    Enforce,
    Suspend,
    Observe,
}

/// The spec, as far as it may be edited in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spec {
    pub want: Option<Profile>,
    pub zeal: Zeal,
    pub deletion: Deletion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deletion {
    Detach,
    Retain,
    Restore,
}

/// What is granted: everything, everything but that an instance has no profile, nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Law {
    All,
    NeverNone,
    Nothing,
}

impl Spec {
    pub fn desired(self) -> Desired {
        Desired {
            instance: InstanceId::parse("i-0123456789abcdef0").unwrap(),
            declared: self.want.map_or(Declared::NoProfile, |profile| Declared::Arn(arn(profile))),
            mode: if self.zeal == Zeal::Observe { Mode::Observe } else { Mode::Enforce },
            adoption: AdoptionPolicy::Replace,
            when_stopped: WhenStopped::DetachThenAttach,
            deletion: match self.deletion {
                Deletion::Detach => DeletionPolicy::Detach,
                Deletion::Retain => DeletionPolicy::Retain,
                Deletion::Restore => DeletionPolicy::Restore,
            },
            suspend: self.zeal == Zeal::Suspend,
            dry_run: false,
        }
    }

    pub fn resolution(self) -> Resolution {
        self.want.map_or(Resolution::NoProfile, |profile| {
            let as_of = noon();
            Resolution::Found(Target { profile: by_arn(profile), id: None, has_role: Some(true), as_of })
        })
    }
}

/// Everything that one judgement is made from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Matter {
    pub spec: Spec,
    pub status: Status,
    /// Deleted; for over two minutes.
    pub deleted: Option<bool>,
    pub finalizer: bool,
    pub law: Law,
    /// An older binding declares the same instance.
    pub rival: bool,
    pub known: Known,
    pub pain: Option<Pain>,
    pub others: Others,
    /// The namespace's circuit is open.
    pub open: bool,
}

/// What others did to the instance lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Others {
    Little,
    /// So much that a repair waits.
    Much,
    /// … and has waited long enough.
    MuchLongAgo,
}

impl Others {
    fn real(self) -> Outsiders {
        let mut outsiders = Outsiders::default();
        let ages = match self {
            Self::Little => vec![],
            Self::Much => vec![4, 3, 2, 1],
            Self::MuchLongAgo => vec![104, 103, 102, 101],
        };
        for age in ages {
            outsiders.note(OutsideChange { at: ago(age), found: Carried::Nothing });
        }
        outsiders
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Next {
    Look,
    Write(Intent),
    Release,
    /// Anything else: as declared, waiting, refused, held.
    Rest {
        done: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub next: Next,
    /// The status that follows.
    pub told: Status,
    /// What is to be done with the finalizer of a living object.
    pub finalizer: Option<bool>,
}

#[derive(Debug, Default)]
pub struct Judge {
    pub mutant: Option<Mutant>,
    known: Mutex<HashMap<Matter, Verdict>>,
}

impl Judge {
    pub fn new(mutant: Option<Mutant>) -> Self {
        Self { mutant, ..Self::default() }
    }

    /// How many different judgements were made.
    pub fn judgements(&self) -> usize {
        self.known.lock().unwrap().len()
    }

    pub fn judge(&self, matter: &Matter) -> Verdict {
        if let Some(known) = self.known.lock().unwrap().get(matter) {
            return known.clone();
        }
        let verdict = self.judge_anew(matter);
        self.known.lock().unwrap().insert(matter.clone(), verdict.clone());
        verdict
    }

    fn judge_anew(&self, matter: &Matter) -> Verdict {
        let desired = matter.spec.desired();
        let before = matter.status.real(0);
        let leaving = matter.deleted.map(|long| Leaving {
            since: ago(if long { 300 } else { 1 }),
            has_finalizer: matter.finalizer,
            forced: false,
            // The older one had the instance all along.
            successor: matter.rival.then_some(Successor::Done),
        });
        let (resolution, observed, decision) = match rights(matter.law) {
            Ok(rights) => {
                let resolution = matter.spec.resolution();
                let mut object = InstanceRoleBinding::new("web", api_spec());
                object.metadata.generation = Some(GENERATION);
                let history = gather::history(&object, &before, &resolution, &[]);
                let standing = if matter.rival { Standing::Loser { winner: None } } else { Standing::Winner };
                let facts = Facts {
                    desired: desired.clone(),
                    resolution,
                    rights,
                    history,
                    observed: matter.known.real().observed(noon(), Timestamp::MIN),
                    standing,
                    trouble: matter.pain.map(Pain::real),
                    restraint: Restraint {
                        outsiders: matter.others.real(),
                        circuit: matter.open.then(|| Circuit { id: "id".into(), most: Ceiling::Number(5) }),
                    },
                    leaving,
                };
                let seen = (facts.resolution.clone(), facts.observed.clone());
                let decision = match self.mutant {
                    Some(mutant) => mutant.decide(facts, matter),
                    None => facts.decide(&here(), noon()),
                };
                (seen.0, seen.1, decision)
            }
            Err(lack) => {
                let decision = match self.mutant {
                    Some(mutant) => mutant.without_rights(matter, &lack),
                    None => without_rights(&desired, leaving.as_ref(), &lack),
                };
                (Resolution::NotAsked, Default::default(), decision)
            }
        };
        let told = Report {
            before: &before,
            generation: Some(GENERATION),
            desired: &desired,
            resolution: &resolution,
            place: (matter.law != Law::Nothing).then(here).as_ref(),
            view: observed.view.as_ref(),
            decision: &decision,
            contended: None,
            heard: None,
            leaving: matter.deleted.is_some(),
        }
        .status(noon());
        Verdict {
            next: match &decision.step {
                Step::Look(_) => Next::Look,
                Step::Write(write) => Next::Write(Intent::of(write)),
                Step::Release(_) => Next::Release,
                Step::Converged => Next::Rest { done: true },
                Step::Wait | Step::Refuse | Step::Hold => Next::Rest { done: false },
            },
            told: Status::of(&told),
            finalizer: finalizer_due(
                matter.finalizer,
                &desired,
                decision.authority.is_granted(),
                matter.status.swapped_out().is_some() || decision.begins_swap(),
            ),
        }
    }
}

/// The rights that a law gives, before AWS is asked anything.
pub fn rights(law: Law) -> Result<Rights, Lack> {
    let spec = |none: bool| {
        serde_json::json!({
            "namespaces": {"names": ["team-a"]},
            "instanceProfiles": ["arn:aws:iam::123456789012:instance-profile/team/*"],
            "instances": {"regions": ["eu-west-1"]},
            "allowNone": none,
        })
    };
    let grant = |none| Grant::parse("g", &serde_json::from_value(spec(none)).unwrap()).unwrap();
    match law {
        Law::All => Ok(Rights { grants: vec![Arc::new(grant(true))], ..Rights::default() }),
        Law::NeverNone => Ok(Rights { grants: vec![Arc::new(grant(false))], ..Rights::default() }),
        Law::Nothing => Err(Lack::Namespace),
    }
}

/// A spec of which nothing is read here but that there is one.
fn api_spec() -> InstanceRoleBindingSpec {
    let spec = serde_json::json!({"instanceId": "i-0123456789abcdef0", "instanceProfile": {"none": {}}});
    serde_json::from_value(spec).unwrap()
}
