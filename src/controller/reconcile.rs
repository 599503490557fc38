//! One pass over one binding: gather, decide, look or act, report.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::controller::Action;

use super::act::{self, Outcome};
use super::bindings::{Bindings, Key, Spot};
use super::context::Context;
use super::events::Tale;
use super::report::Report;
use super::{gather, kubernetes};
use crate::api::InstanceRoleBinding;
use crate::api::binding::{DeletionPolicy, InstanceRoleBindingStatus, Mode};
use crate::decide::{
    Case, Cause, Decision, Desired, Evidence, Farewell, Instance, InstanceState, Observed, Phase, Reason,
    Resolution, Rows, Step, TroubleKind, decide, trouble,
};
use crate::ec2::{Connection, Error};
use crate::telemetry::DriftCause;

/// Decisions in one pass: two halves of a swap with a look before each, and the report after.
const ROUNDS: usize = 8;
/// A wait for a turn shorter than this is not told: it would be over before anybody reads it.
const WORTH_TELLING: Duration = Duration::from_secs(5);
/// How soon to look again after a newer object refused a write: its own event usually comes first.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// One binding in the course of a pass.
#[derive(Debug)]
pub struct Subject {
    pub key: Key,
    pub uid: String,
    pub object: Arc<InstanceRoleBinding>,
    /// The status as it will be told: ahead of `object`'s between a reply and its report.
    pub status: InstanceRoleBindingStatus,
    pub desired: Desired,
    pub spot: Spot,
    pub connection: Connection,
    /// What is to be looked at again whatever is known, because it was asked for, is due, or is out of date.
    pub look_again: Evidence,
    /// Whether the instance was seen running when the last decision was made.
    pub was_running: bool,
    /// The request for a look that this pass answers.
    heard: Option<String>,
}

/// What is known at the moment of a decision.
struct Known {
    resolution: Resolution,
    observed: Observed,
    decision: Decision,
}

/// One pass. `Err` means that the API server could not be written to.
pub async fn reconcile(
    object: Arc<InstanceRoleBinding>,
    ctx: &Arc<Context>,
) -> Result<Action, kubernetes::Error> {
    let key = Key::of(&object);
    let desired = match gather::desired(&object, &ctx.settings) {
        Ok(desired) => desired,
        Err(malformed) => {
            tracing::error!(binding = %key, %malformed, "the spec cannot be read; it was stored before the CRD's rules");
            return Ok(Action::await_change());
        }
    };
    let Some(spot) = ctx.bindings.spot(&object) else { return Ok(Action::await_change()) };
    let connection = ctx.connect(&spot.region);
    connection.fleet.track(&spot.instance);
    connection.fleet.first_pass().await;
    let now = Timestamp::now();
    let version = gather::version(&object);
    ctx.memory.open(&version, now);
    let asked = gather::unheard_request(&object);
    let mut subject = Subject {
        status: object.status.clone().unwrap_or_default(),
        heard: version.requested_at.filter(|_| asked),
        look_again: match (asked, ctx.memory.due(&version.uid, now)) {
            (true, _) => Evidence::ALL,
            (false, Some(reason)) => reason.evidence(),
            (false, None) => Evidence::default(),
        },
        uid: version.uid,
        was_running: false,
        key,
        object,
        desired,
        spot,
        connection,
    };
    pass(ctx, &mut subject).await
}

async fn pass(ctx: &Arc<Context>, subject: &mut Subject) -> Result<Action, kubernetes::Error> {
    let mut known = consider(ctx, subject).await?;
    for _ in 0..ROUNDS {
        let Step::Write(write) = known.decision.step.clone() else { break };
        let before = known.decision.clone();
        tell_drift(ctx, subject, &known);
        let status = told(subject, &known);
        match act::act(ctx, subject, &write, &before, status).await? {
            Outcome::Called => known = consider(ctx, subject).await?,
            Outcome::Waits(wait) => return queued(ctx, subject, known, wait).await,
        }
    }
    ctx.leave_queues(&subject.key);
    if let Step::Release(how) = known.decision.step {
        return release(ctx, subject, how, &known.decision).await;
    }
    report(ctx, subject, &known).await?;
    Ok(next_look(ctx, subject, &known))
}

/// Decides, looking at what the decision asks for, until there is a step to take.
async fn consider(ctx: &Arc<Context>, subject: &mut Subject) -> Result<Known, kubernetes::Error> {
    let mut seen = Ok(());
    for round in 0..ROUNDS {
        let mut evidence = std::mem::take(&mut subject.look_again);
        if evidence == Evidence::default() {
            let mut known = judge(ctx, subject);
            match (&known.decision.step, &seen) {
                (Step::Look(wanted), Ok(())) => evidence = *wanted,
                (Step::Look(_), Err(error)) => known.decision = trouble::unseen(error),
                _ => {}
            }
            if evidence == Evidence::default() || round + 1 == ROUNDS {
                subject.was_running = matches!(
                    known.observed.instance,
                    Some(Instance::Present { state: InstanceState::Running, .. })
                );
                return Ok(known);
            }
        }
        // The finalizer depends on nothing that is looked at, so it goes side by side.
        let (connection, desired) = (subject.connection.clone(), subject.desired.clone());
        let (looked, finalized) = tokio::join!(look(&connection, &desired, evidence), finalize(ctx, subject));
        finalized?;
        seen = looked.map_err(|error| error.trouble());
        if seen.is_err() {
            // A request is answered by a look, not by a failed one.
            subject.heard = None;
        }
        if let Err(kind) = &seen
            && !matches!(kind, TroubleKind::Throttled)
        {
            tracing::debug!(binding = %subject.key, ?kind, "a look failed");
        }
    }
    Ok(judge(ctx, subject))
}

fn judge(ctx: &Arc<Context>, subject: &Subject) -> Known {
    let now = Timestamp::now();
    let Subject { object, connection, desired, .. } = subject;
    let fleet = &connection.fleet;
    let rivals = gather::rivals(object, &subject.spot, &ctx.bindings);
    let resolution = connection.catalogue.resolve(&desired.declared);
    let with_status = with_status(object, &subject.status);
    let history = gather::history(&with_status, &resolution, &rivals);
    if let Some((at, until)) = gather::settles(&history, now) {
        fleet.written_elsewhere(&desired.instance, at, until);
    }
    let observed = fleet.observed(&desired.instance, now);
    let leaving = gather::leaving(object, &rivals, &ctx.settings);
    let trouble = ctx.memory.trouble(&subject.uid);
    let standing = gather::standing(object, &rivals, &ctx.settings);
    let case = Case {
        desired,
        resolution: &resolution,
        place: &connection.place,
        history: &history,
        observed: &observed,
        standing: &standing,
        trouble: trouble.as_ref(),
        leaving: leaving.as_ref(),
    };
    let mut decision = decide(&case, now);
    if let Some(error) = fleet.failing(ctx.settings.patience(), now)
        && matches!(decision.step, Step::Converged | Step::Look(_))
    {
        decision = trouble::unseen(&error.trouble());
    }
    Known { resolution, observed, decision }
}

/// The object with the status as it will be told.
fn with_status(object: &InstanceRoleBinding, status: &InstanceRoleBindingStatus) -> InstanceRoleBinding {
    InstanceRoleBinding { status: Some(status.clone()), ..object.clone() }
}

/// Makes the looks that are asked for, side by side.
async fn look(connection: &Connection, desired: &Desired, evidence: Evidence) -> Result<(), Error> {
    let Connection { fleet, catalogue, .. } = connection;
    let associations = async {
        if evidence.associations { fleet.look_at_associations(&desired.instance).await } else { Ok(()) }
    };
    let instance =
        async { if evidence.instance { fleet.look_at_instance(&desired.instance).await } else { Ok(()) } };
    let profile = async {
        if evidence.profile {
            catalogue.look(&desired.declared).await;
        }
    };
    let (associations, instance, ()) = tokio::join!(associations, instance, profile);
    associations.and(instance)
}

/// The finalizer is there only where deletion has work to do.
async fn finalize(ctx: &Context, subject: &mut Subject) -> Result<(), kubernetes::Error> {
    let Subject { object, desired, .. } = &*subject;
    if object.metadata.deletion_timestamp.is_some() || ctx.settings.dry_run {
        return Ok(());
    }
    let has = gather::has_finalizer(object);
    let idle = desired.mode == Mode::Observe || desired.deletion == DeletionPolicy::Retain;
    let changed = match (has, desired.deletion_has_work(), idle) {
        (false, true, _) => ctx.kubernetes.add_finalizer(object).await?,
        (true, _, true) => ctx.kubernetes.remove_finalizer(object).await?,
        _ => return Ok(()),
    };
    if changed.metadata.generation != object.metadata.generation || changed.uid() != object.uid() {
        return Err(kubernetes::Error::Conflict);
    }
    subject.object = Arc::new(changed);
    Ok(())
}

/// The status that follows from what is known.
fn told(subject: &Subject, known: &Known) -> InstanceRoleBindingStatus {
    Report {
        before: &subject.status,
        generation: subject.object.metadata.generation,
        desired: &subject.desired,
        resolution: &known.resolution,
        place: &subject.connection.place,
        view: known.observed.view.as_ref(),
        decision: &known.decision,
        heard: subject.heard.as_deref(),
        leaving: subject.object.metadata.deletion_timestamp.is_some(),
    }
    .status(Timestamp::now())
}

async fn report(ctx: &Arc<Context>, subject: &mut Subject, known: &Known) -> Result<(), kubernetes::Error> {
    if subject.object.metadata.deletion_timestamp.is_none() {
        finalize(ctx, subject).await?;
    }
    // A passing failure of AWS changes nothing for an object that was well: the view says when it has lasted.
    let passing = matches!(known.decision.reason, Reason::AWSUnavailable | Reason::Throttled)
        && known.decision.in_sync.is_none();
    let well = super::bindings::is_settled(&subject.object);
    let patience = ctx.settings.patience();
    if passing
        && well
        && subject.heard.is_none()
        && subject.connection.fleet.failing(patience, Timestamp::now()).is_none()
    {
        return Ok(());
    }
    let status = told(subject, known);
    if subject.object.status.as_ref() != Some(&status) {
        tell_alarm(ctx, subject, known);
        let reason = known.decision.reason.as_str();
        let phase = known.decision.step.phase();
        tracing::debug!(binding = %subject.key, reason, ?phase, "status changes");
        subject.object = Arc::new(ctx.kubernetes.patch_status(&subject.object, &status).await?);
        ctx.bindings.wake_at_others(&subject.spot, &subject.key);
    }
    subject.status = status;
    if phase_done(known)
        && let Some(since) = ctx.memory.take_since(&subject.uid)
        && let Some(at) = subject.status.changes.first().map(|c| c.at.0)
        && at >= since - SignedDuration::from_secs(1)
    {
        ctx.metrics.convergence(Timestamp::now().duration_since(since).as_secs_f64());
    }
    Ok(())
}

fn phase_done(known: &Known) -> bool {
    known.decision.step.phase() == Phase::Done
}

/// The change has to wait for its turn; it is told if that takes a while. Its turn wakes it.
async fn queued(
    ctx: &Arc<Context>,
    subject: &mut Subject,
    mut known: Known,
    wait: Duration,
) -> Result<Action, kubernetes::Error> {
    if wait < WORTH_TELLING {
        return Ok(Action::await_change());
    }
    let Some((operation, _)) = known.decision.plan.first().copied() else {
        return Ok(Action::await_change());
    };
    let throttled = ctx.is_throttled(&subject.connection.place, operation);
    known.decision.step = Step::Wait;
    (known.decision.reason, known.decision.message) = if throttled {
        (
            Reason::Throttled,
            format!(
                "{}: EC2 throttles this account and Region, so it waits for its turn",
                known.decision.message
            ),
        )
    } else {
        (
            Reason::BudgetExhausted,
            format!(
                "{}: it waits for its turn within EC2's limits for this account and Region",
                known.decision.message
            ),
        )
    };
    report(ctx, subject, &known).await?;
    Ok(Action::await_change())
}

/// Deletion has nothing left to do.
async fn release(
    ctx: &Arc<Context>,
    subject: &mut Subject,
    how: Farewell,
    decision: &Decision,
) -> Result<Action, kubernetes::Error> {
    if !gather::has_finalizer(&subject.object) || ctx.settings.dry_run {
        return Ok(Action::await_change());
    }
    ctx.kubernetes.remove_finalizer(&subject.object).await?;
    tracing::info!(binding = %subject.key, ?how, "released");
    let reason = match how {
        Farewell::Done => None,
        Farewell::LeftInPlace => Some((true, "LeftInPlace")),
        Farewell::NotRestored => Some((true, "NotRestored")),
        Farewell::HandedOver => Some((false, "HandedOver")),
        Farewell::Forced => Some((true, "ForceReleased")),
    };
    if let Some((warning, reason)) = reason {
        let note = decision.message.clone();
        ctx.events.tell(&subject.object, Tale { warning, reason, action: "Release", note, profile: None });
    }
    ctx.memory.forget(&subject.uid);
    Ok(Action::await_change())
}

fn next_look(ctx: &Context, subject: &Subject, known: &Known) -> Action {
    let now = Timestamp::now();
    let Subject { connection, desired, uid, .. } = subject;
    ctx.memory.went_well(uid);
    let reason = known.decision.reason;
    let awaited =
        known.decision.step.phase() != Phase::Done && reason.cadence() == crate::decide::Cadence::EachPass;
    connection.fleet.await_instance(&desired.instance, awaited);
    if known.decision.step.phase() == Phase::Done {
        ctx.memory.healed(uid);
    }
    let retry = ctx.memory.trouble(uid).map(|trouble| trouble.retry_at);
    let settled =
        connection.fleet.settles(&desired.instance).filter(|at| *at > now && reason != Reason::Associated);
    let at_latest =
        [retry, settled].into_iter().flatten().min().map(|at| at + SignedDuration::from_millis(100));
    match ctx.memory.next_look(uid, reason, at_latest, now) {
        Some(wait) => Action::requeue(wait),
        None => Action::await_change(),
    }
}

/// How soon to try again after a pass that could not be finished.
pub fn after(error: &kubernetes::Error, ctx: &Context, uid: &str) -> Action {
    match error {
        kubernetes::Error::Conflict => Action::requeue(OVERTAKEN),
        kubernetes::Error::Timeout | kubernetes::Error::Refused(_) => {
            Action::requeue(ctx.memory.after_error(uid))
        }
    }
}

/// Drift is told once, when it is found.
fn tell_drift(ctx: &Context, subject: &Subject, known: &Known) {
    let cause = known.decision.plan.first().map(|(_, cause)| *cause);
    let drift = matches!(cause, Some(Cause::DriftDetected | Cause::ProfileRecreated));
    let told =
        subject.status.plan.first().is_some_and(|p| Some(p.reason.as_str()) == cause.map(Cause::as_str));
    if !drift || told {
        return;
    }
    let rows = known.observed.view.as_ref().map(|v| &v.rows);
    let found = rows.and_then(Rows::live);
    let wanted_none = known.resolution == Resolution::NoProfile;
    ctx.metrics.drift(match (cause, found) {
        (Some(Cause::ProfileRecreated), _) => DriftCause::Recreated,
        (_, None) => DriftCause::Detached,
        (_, Some(_)) if wanted_none => DriftCause::Attached,
        (_, Some(_)) => DriftCause::Replaced,
    });
    let from = found.map_or("no instance profile", |row| row.profile.as_str());
    let note = format!(
        "{} carries {from}, which somebody else brought about; {}",
        subject.desired.instance, known.decision.message
    );
    tracing::info!(binding = %subject.key, instance = %subject.desired.instance, found = from, "drift detected");
    let profile = Some(from.to_owned());
    ctx.events.tell(
        &subject.object,
        Tale { warning: true, reason: "DriftDetected", action: "Observe", note, profile },
    );
}

/// What needs a person is told as an Event when it begins.
fn tell_alarm(ctx: &Context, subject: &Subject, known: &Known) {
    let Decision { step: Step::Refuse, reason, message, .. } = &known.decision else {
        tell_drift_if_held(ctx, subject, known);
        return;
    };
    let before =
        subject.object.status.iter().flat_map(|s| s.conditions.iter()).find(|c| c.type_ == "Stalled");
    if before.is_none_or(|c| c.reason != reason.as_str()) {
        tracing::info!(binding = %subject.key, reason = reason.as_str(), message, "a person is needed");
        let tale = Tale {
            warning: true,
            reason: reason.as_str(),
            action: "Reconcile",
            note: message.clone(),
            profile: None,
        };
        ctx.events.tell(&subject.object, tale);
    }
    tell_drift_if_held(ctx, subject, known);
}

/// Drift is told where it is only observed, too.
fn tell_drift_if_held(ctx: &Context, subject: &Subject, known: &Known) {
    if matches!(known.decision.step, Step::Refuse | Step::Hold) {
        tell_drift(ctx, subject, known);
    }
}

impl Bindings {
    /// Has the other bindings of an instance looked at again, such as one that waits for this one to take over.
    fn wake_at_others(&self, spot: &Spot, key: &Key) {
        self.at(spot)
            .iter()
            .map(|b| Key::of(b))
            .filter(|other| other != key)
            .for_each(|other| self.wake(&other));
    }
}
