//! Mistakes, one at a time: each is the controller with one thing wrong, and each must be caught by a property. The
//! mistakes of judgement are put around the real `decide`; those of conduct are switches in [`super::system`].

use super::judge::{Law, Matter, Others, rights};
use super::small::{FOREIGN, Status, by_arn, here, noon};
use super::system::Theme;
use crate::api::binding::{DeletionPolicy, Mode, Operation};
use crate::controller::gather::Facts;
use crate::decide::{
    Cause, Decision, Farewell, Grade, Lack, Observed, Reason, Resolution, Standing, Step, Write,
    without_rights,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    // Of judgement.
    DetachesFirstOnRunning,
    TrustsTheUnsettled,
    TrustsTheListing,
    WritesWithoutGrant,
    StripsWhereForbidden,
    RestoresForDetach,
    DetachesForRetain,
    DetachesWhatOthersAttached,
    LeavesWithoutDetaching,
    ForgetsWhatWasBefore,
    KeepsTheFinalizer,
    WritesWhileSuspended,
    WritesWhileObserving,
    WritesDespiteConflict,
    NamesAnotherAssociation,
    AttachesSomethingElse,
    ForgetsTheSecondHalf,
    KeepsWriting,
    NeverMendsDrift,
    GivesUpAfterAFailure,
    HoldsEditsAsWell,
    HoldsTheSecondHalf,
    HoldsDeletions,
    WaitsForOthersForEver,
    // Of conduct.
    IgnoresTheNewerEdit,
    SecondWriteInFlight,
    WritesWithoutIntent,
    SendsWithoutPermit,
    ForgetsIntentsOfOthers,
}

impl Mutant {
    /// Each with the search that meets it, how many disturbances that takes, and the properties that may catch it: one of them must.
    pub const ALL: [(Self, Theme, u8, &'static [&'static str]); 29] = [
        (Self::DetachesFirstOnRunning, Theme::Storm, 1, &["R"]),
        (Self::TrustsTheUnsettled, Theme::Storm, 2, &["S5", "S6"]),
        (Self::TrustsTheListing, Theme::Storm, 2, &["S5", "S6"]),
        (Self::WritesWithoutGrant, Theme::People, 1, &["S3"]),
        (Self::StripsWhereForbidden, Theme::People, 2, &["S3"]),
        (Self::RestoresForDetach, Theme::People, 1, &["S5"]),
        (Self::DetachesForRetain, Theme::People, 2, &["S5", "S6"]),
        (Self::DetachesWhatOthersAttached, Theme::Storm, 2, &["S5"]),
        (Self::LeavesWithoutDetaching, Theme::People, 1, &["S5"]),
        (Self::ForgetsWhatWasBefore, Theme::People, 1, &["S5"]),
        (Self::KeepsTheFinalizer, Theme::People, 1, &["L1"]),
        (Self::WritesWhileSuspended, Theme::People, 1, &["S1"]),
        (Self::WritesWhileObserving, Theme::People, 1, &["S1"]),
        (Self::WritesDespiteConflict, Theme::People, 1, &["S1"]),
        (Self::NamesAnotherAssociation, Theme::Storm, 1, &["S1"]),
        (Self::AttachesSomethingElse, Theme::Storm, 1, &["E"]),
        (Self::ForgetsTheSecondHalf, Theme::People, 1, &["S6"]),
        (Self::KeepsWriting, Theme::Storm, 1, &["S4"]),
        (Self::NeverMendsDrift, Theme::Storm, 1, &["L1"]),
        (Self::GivesUpAfterAFailure, Theme::Storm, 1, &["L1"]),
        (Self::HoldsEditsAsWell, Theme::Restraint, 1, &["L1"]),
        (Self::HoldsTheSecondHalf, Theme::Restraint, 1, &["S6", "L1"]),
        (Self::HoldsDeletions, Theme::Restraint, 1, &["L1"]),
        (Self::WaitsForOthersForEver, Theme::Restraint, 1, &["L1"]),
        (Self::IgnoresTheNewerEdit, Theme::People, 1, &["E", "S1", "S5"]),
        (Self::SecondWriteInFlight, Theme::Storm, 1, &["S2"]),
        (Self::WritesWithoutIntent, Theme::Storm, 1, &["S2"]),
        (Self::SendsWithoutPermit, Theme::People, 1, &["S3", "S1"]),
        (Self::ForgetsIntentsOfOthers, Theme::Storm, 2, &["S5"]),
    ];

    /// What the mistaken controller decides.
    pub fn decide(self, mut facts: Facts, matter: &Matter) -> Decision {
        let due = facts.decide(&here(), noon());
        let leaving = facts.leaving.is_some();
        match self {
            Self::DetachesFirstOnRunning => wrote(due, |write| match write {
                Write::Replace { association, from, profile } => {
                    Write::Disassociate { association, from, then: Some(profile) }
                }
                other => other,
            }),
            Self::TrustsTheUnsettled => {
                trust(&mut facts.observed, Grade::Unsettled);
                decided(&facts)
            }
            Self::TrustsTheListing => {
                trust(&mut facts.observed, Grade::Listing);
                decided(&facts)
            }
            Self::StripsWhereForbidden => {
                facts.rights = rights(Law::All).unwrap();
                decided(&facts)
            }
            Self::RestoresForDetach if leaving && facts.desired.deletion == DeletionPolicy::Detach => {
                facts.desired.deletion = DeletionPolicy::Restore;
                decided(&facts)
            }
            Self::DetachesForRetain if leaving && facts.desired.deletion == DeletionPolicy::Retain => {
                facts.desired.deletion = DeletionPolicy::Detach;
                decided(&facts)
            }
            Self::DetachesWhatOthersAttached if leaving => {
                let rows = facts.observed.view.as_ref().and_then(|view| view.rows.live());
                let carried = rows.map(|row| {
                    crate::decide::Carried::Profile(crate::decide::ProfileRef::Arn(row.profile.clone()))
                });
                facts.history.desired = carried.or(facts.history.desired);
                decided(&facts)
            }
            Self::LeavesWithoutDetaching if leaving => {
                instead(due, |_| Step::Release(Farewell::LeftInPlace), |step| matches!(step, Step::Write(_)))
            }
            Self::ForgetsWhatWasBefore => {
                facts.history.previous = None;
                decided(&facts)
            }
            Self::KeepsTheFinalizer => instead(due, |_| Step::Wait, |step| matches!(step, Step::Release(_))),
            Self::WritesWhileSuspended => {
                facts.desired.suspend = false;
                decided(&facts)
            }
            Self::WritesWhileObserving => {
                facts.desired.mode = Mode::Enforce;
                decided(&facts)
            }
            Self::WritesDespiteConflict => {
                facts.standing = Standing::Winner;
                decided(&facts)
            }
            Self::NamesAnotherAssociation => wrote(due, |write| match write {
                Write::Replace { from, profile, .. } => {
                    Write::Replace { association: foreign(), from, profile }
                }
                other => other,
            }),
            Self::AttachesSomethingElse => wrote(due, |write| match write {
                Write::Associate { .. } => Write::Associate { profile: by_arn(super::ec2::Profile::Other) },
                other => other,
            }),
            Self::ForgetsTheSecondHalf => {
                let half = Status::swapped_out(&matter.status).is_some();
                instead(
                    due,
                    |_| Step::Converged,
                    |step| half && matches!(step, Step::Write(Write::Associate { .. })),
                )
            }
            Self::KeepsWriting => keeps_writing(due, &facts),
            Self::NeverMendsDrift => {
                let was = facts.history.was_in_sync;
                instead(due, |_| Step::Converged, |step| was && matches!(step, Step::Write(_)))
            }
            Self::GivesUpAfterAFailure if facts.trouble.is_some() => {
                instead(due, |_| Step::Refuse, |step| matches!(step, Step::Write(_)))
            }
            Self::HoldsEditsAsWell if matter.open && !leaving => {
                instead(due, |_| Step::Refuse, |step| matches!(step, Step::Write(_)))
            }
            Self::HoldsTheSecondHalf if matter.open => {
                let half = Status::swapped_out(&matter.status).is_some();
                instead(due, |_| Step::Refuse, |step| half && matches!(step, Step::Write(_)))
            }
            Self::HoldsDeletions if matter.open && leaving => {
                instead(due, |_| Step::Refuse, |step| matches!(step, Step::Write(_)))
            }
            Self::WaitsForOthersForEver if matter.others != Others::Little => {
                let drift = due.plan.first().is_some_and(|(_, cause)| *cause == Cause::DriftDetected);
                instead(due, |_| Step::Wait, |step| drift && matches!(step, Step::Write(_)))
            }
            _ => due,
        }
    }

    /// What it decides where no grant covers the binding.
    pub fn without_rights(self, matter: &Matter, lack: &Lack) -> Decision {
        let desired = matter.spec.desired();
        if self != Self::WritesWithoutGrant || matter.deleted.is_some() {
            let leaving = matter.deleted.map(|_| crate::decide::Leaving {
                since: noon(),
                has_finalizer: matter.finalizer,
                forced: false,
                successor: None,
            });
            return without_rights(&desired, leaving.as_ref(), lack);
        }
        let facts = Facts {
            resolution: matter.spec.resolution(),
            desired,
            rights: rights(Law::All).unwrap(),
            history: Default::default(),
            observed: matter.known.real().observed(noon(), jiff::Timestamp::MIN),
            standing: Standing::Winner,
            trouble: None,
            restraint: Default::default(),
            leaving: None,
        };
        decided(&facts)
    }
}

fn decided(facts: &Facts) -> Decision {
    facts.decide(&here(), noon())
}

fn foreign() -> crate::ids::AssociationId {
    crate::ids::AssociationId::parse(&format!("iip-assoc-{FOREIGN:03}")).unwrap()
}

fn trust(observed: &mut Observed, grade: Grade) {
    if let Some(view) = observed.view.as_mut().filter(|view| view.grade == grade) {
        view.grade = Grade::Settled;
    }
}

fn wrote(decision: Decision, change: impl FnOnce(Write) -> Write) -> Decision {
    match decision.step {
        Step::Write(write) => Decision { step: Step::Write(change(write)), ..decision },
        _ => decision,
    }
}

fn instead(
    decision: Decision,
    step: impl FnOnce(&Step) -> Step,
    where_: impl FnOnce(&Step) -> bool,
) -> Decision {
    if where_(&decision.step) { Decision { step: step(&decision.step), ..decision } } else { decision }
}

fn keeps_writing(due: Decision, facts: &Facts) -> Decision {
    let row = facts.observed.view.as_ref().and_then(|view| view.rows.live());
    let (Step::Converged, Resolution::Found(target), Some(row)) = (&due.step, &facts.resolution, row) else {
        return due;
    };
    let write = Write::Replace {
        association: row.id.clone(),
        from: target.profile.clone(),
        profile: target.profile.clone(),
    };
    let plan = vec![(Operation::ReplaceIamInstanceProfileAssociation, Cause::Declared)];
    Decision { step: Step::Write(write), reason: Reason::Replacing, plan, ..due }
}
