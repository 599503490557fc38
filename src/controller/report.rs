//! What is told: the next status from the last one and the decision. Pure; time comes in as an argument.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::api::binding::{
    Change, InstanceRoleBindingStatus, ObservedAssociation, PlannedChange, ProfileOrNone,
};
use crate::api::condition::{ConditionType, Truth, condition};
use crate::decide::reason;
use crate::decide::{
    Authority, Carried, Decision, Desired, Phase, Place, Reason, Resolution, Step, View, Write,
};

/// How many changes status remembers.
const CHANGES: usize = 5;

/// What a report is made from.
#[derive(Debug)]
pub struct Report<'a> {
    /// The status as it stands.
    pub before: &'a InstanceRoleBindingStatus,
    /// The generation of the spec that was judged.
    pub generation: Option<i64>,
    /// What is wanted.
    pub desired: &'a Desired,
    /// What IAM made of it.
    pub resolution: &'a Resolution,
    /// Where the controller looks, if it may.
    pub place: Option<&'a Place>,
    /// What EC2 shows.
    pub view: Option<&'a View>,
    /// The decision.
    pub decision: &'a Decision,
    /// What is told of others who keep changing the instance.
    pub contended: Option<String>,
    /// The request for a look that was made, if there was one.
    pub heard: Option<&'a str>,
    /// Whether the object is being deleted: then what it wanted stays as it stood.
    pub leaving: bool,
}

impl Report<'_> {
    /// The status that follows. Equal to `before` where nothing but time has passed.
    pub fn status(&self, now: Timestamp) -> InstanceRoleBindingStatus {
        let before = self.before;
        let resolved = self.resolved();
        let refused = self.is_refused();
        let place = self.place.filter(|_| !refused && self.decision.reason != Reason::RegionChanged);
        // Without a right only what was carried out while there was one is still told.
        let unused = InstanceRoleBindingStatus::default();
        let noted_place =
            if refused && before.previous.is_none() && before.adopted.is_none() { &unused } else { before };
        InstanceRoleBindingStatus {
            observed_generation: self.generation,
            region: place.map_or_else(|| noted_place.region.clone(), |place| Some(place.region.to_string())),
            account: place
                .map_or_else(|| noted_place.account.clone(), |place| Some(place.account.to_string())),
            mode: Some(self.desired.mode),
            deletion_policy: Some(self.desired.deletion),
            profile: resolved
                .as_ref()
                .map(|carried| carried.profile().map_or("none", |p| p.name()).to_owned()),
            desired: resolved.as_ref().map(noted),
            observed: self.observed(),
            previous: before.previous.clone(),
            adopted: if self.decision.in_sync == Some(true) { Some(true) } else { before.adopted },
            changes: before.changes.clone(),
            plan: self
                .decision
                .plan
                .iter()
                .filter(|_| !refused)
                .map(|(operation, cause)| PlannedChange {
                    operation: *operation,
                    reason: cause.as_str().into(),
                })
                .collect(),
            grant: match &self.decision.authority {
                Authority::Granted { grant, .. } => Some(grant.to_string()),
                Authority::Refused { .. } => None,
                Authority::Open => before.grant.clone(),
            },
            last_handled_requested_at: self
                .heard
                .map(str::to_owned)
                .or_else(|| before.last_handled_requested_at.clone()),
            conditions: self.conditions(&Time(now)),
        }
    }

    /// Whether no grant covers the binding: then nothing of the instance is told.
    fn is_refused(&self) -> bool {
        matches!(self.decision.authority, Authority::Refused { .. })
    }

    /// What is wanted, as far as it is known; an outage of IAM takes nothing away.
    fn resolved(&self) -> Option<Carried> {
        let as_before = || {
            self.before.desired.as_ref().and_then(|noted| match (&noted.profile_arn, noted.none) {
                (Some(arn), _) => crate::decide::ProfileRef::parse(arn).map(Carried::Profile),
                (None, Some(true)) => Some(Carried::Nothing),
                (None, _) => None,
            })
        };
        match self.resolution {
            _ if self.is_refused() => None,
            _ if self.leaving => as_before(),
            Resolution::NoProfile => Some(Carried::Nothing),
            Resolution::Found(target) => Some(Carried::Profile(target.profile.clone())),
            Resolution::NotAsked | Resolution::Unavailable(_) => as_before(),
            Resolution::Denied(_) | Resolution::Missing { .. } | Resolution::Ambiguous(_) => None,
        }
    }

    fn observed(&self) -> Option<ObservedAssociation> {
        let moved = self.decision.reason == Reason::RegionChanged;
        let view = match self.decision.authority {
            Authority::Refused { .. } => return None,
            Authority::Granted { .. } => self.view.filter(|_| !moved),
            Authority::Open => None,
        };
        let Some(view) = view else { return self.before.observed.clone() };
        view.rows.shown().map(|row| ObservedAssociation {
            profile_arn: Some(row.profile.to_string()),
            profile_id: row.profile_id.as_ref().map(ToString::to_string),
            association_id: Some(row.id.to_string()),
            association_state: Some(row.state.as_str().to_owned()),
        })
    }

    fn conditions(&self, now: &Time) -> Vec<Condition> {
        let Decision { step, reason, message, in_sync, .. } = self.decision;
        let blind = matches!(reason, Reason::AWSUnavailable | Reason::Throttled) && in_sync.is_none();
        let phase = step.phase();
        let mut told = vec![(
            ConditionType::Ready,
            match phase {
                Phase::Done => Truth::True,
                Phase::Reconciling | Phase::Stalled | Phase::Held if blind => Truth::Unknown,
                Phase::Reconciling | Phase::Stalled | Phase::Held => Truth::False,
            },
        )];
        match phase {
            Phase::Done | Phase::Held => {}
            Phase::Reconciling => told.push((ConditionType::Reconciling, Truth::True)),
            Phase::Stalled => told.push((ConditionType::Stalled, Truth::True)),
        }
        told.push((
            ConditionType::Synced,
            match in_sync {
                Some(true) if !self.is_refused() => Truth::True,
                Some(false) if !self.is_refused() => Truth::False,
                Some(_) | None => Truth::Unknown,
            },
        ));
        let make = |type_, truth, reason: &str, message: String| {
            condition(&self.before.conditions, type_, truth, (reason, message), self.generation, now)
        };
        let mut all: Vec<Condition> = told
            .into_iter()
            .map(|(type_, truth)| make(type_, truth, reason.as_str(), message.clone()))
            .collect();
        let (truth, why, words) = authorized(self.decision);
        all.push(make(ConditionType::Authorized, truth, why, words));
        if let Some(message) = self.contended.clone().filter(|_| !self.is_refused() && !self.leaving) {
            all.push(make(ConditionType::Contended, Truth::True, Reason::OutsideWriter.as_str(), message));
        }
        if self.desired.suspend {
            all.push(make(
                ConditionType::Suspended,
                Truth::True,
                Reason::Suspended.as_str(),
                "spec.suspend is true: nothing is changed".into(),
            ));
        }
        all
    }
}

/// What is told of a binding's rights.
fn authorized(decision: &Decision) -> (Truth, &'static str, String) {
    match &decision.authority {
        Authority::Granted { grant, .. } => {
            (Truth::True, reason::GRANTED, format!("grant {grant} covers this binding"))
        }
        Authority::Refused { .. } if decision.step == Step::Refuse => {
            (Truth::False, decision.reason.as_str(), decision.message.clone())
        }
        Authority::Refused { .. } => {
            let words = "no InstanceRoleGrant covers what this binding declares".to_owned();
            (Truth::False, Reason::NotAuthorized.as_str(), words)
        }
        Authority::Open => (
            Truth::Unknown,
            decision.reason.as_str(),
            "whether a grant covers this binding cannot be told before AWS has answered".to_owned(),
        ),
    }
}

/// Status before a write: its entry stands without request id, and what was there before is kept for Restore.
pub fn intend(status: &mut InstanceRoleBindingStatus, write: &Write, now: Timestamp) {
    let from = write.from();
    if status.previous.is_none() {
        status.previous = Some(noted(&from));
    }
    status.changes.insert(
        0,
        Change {
            operation: write.operation(),
            from: from.as_str().to_owned(),
            to: write.to().as_str().to_owned(),
            then: write.then().map(|next| next.as_str().to_owned()),
            at: Time(now),
            request_id: None,
        },
    );
    status.changes.truncate(CHANGES);
}

/// Status after the reply.
pub fn complete(status: &mut InstanceRoleBindingStatus, request_id: Option<&str>) {
    if let Some(newest) = status.changes.first_mut() {
        newest.request_id = Some(request_id.unwrap_or("unknown").to_owned());
    }
}

/// Status after a refusal: nothing was changed, so nothing is claimed.
pub fn withdraw(status: &mut InstanceRoleBindingStatus) {
    if status.changes.first().is_some_and(|change| change.request_id.is_none()) {
        status.changes.remove(0);
        if status.changes.is_empty() {
            status.previous = None;
        }
    }
}

fn noted(carried: &Carried) -> ProfileOrNone {
    match carried {
        Carried::Profile(profile) => {
            ProfileOrNone { profile_arn: Some(profile.as_str().to_owned()), none: None }
        }
        Carried::Nothing => ProfileOrNone { profile_arn: None, none: Some(true) },
    }
}

#[cfg(test)]
mod tests;
