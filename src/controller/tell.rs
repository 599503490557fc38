//! What people are told: status, and the Events about what was found.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::bindings::Key;
use super::context::Context;
use super::events::Tale;
use super::leadership::Term;
use super::reconcile::{Known, Subject};
use super::report::Report;
use super::{bindings, gather, kubernetes, reconcile};
use crate::api::binding::InstanceRoleBindingStatus;
use crate::api::condition::{self, ConditionType};
use crate::api::{InstanceRoleBinding, REQUESTED_AT};
use crate::decide::contention;
use crate::decide::{Cause, Contention, Decision, Desired, Phase, Reason, Resolution, Rows, Step};
use crate::telemetry::DriftCause;

/// The status that follows from what is known.
pub fn told(subject: &Subject, known: &Known) -> InstanceRoleBindingStatus {
    Report {
        before: &subject.status,
        generation: subject.object.metadata.generation,
        desired: &subject.desired,
        resolution: &known.resolution,
        place: Some(&subject.connection.place),
        view: known.observed.view.as_ref(),
        decision: &known.decision,
        contended: known.contention.as_ref().map(Contention::message),
        heard: subject.heard.as_deref(),
        leaving: subject.object.metadata.deletion_timestamp.is_some(),
    }
    .status(Timestamp::now())
}

/// Writes status, if it says anything new. False: many do, so this one waits for its turn and is woken for it.
pub async fn report(
    ctx: &Arc<Context>,
    subject: &mut Subject,
    known: &Known,
) -> Result<bool, kubernetes::Error> {
    if is_passing(ctx, subject, known) {
        return Ok(true);
    }
    let status = told(subject, known);
    if subject.object.status.as_ref() != Some(&status) {
        let left_alone = known.decision.reason == Reason::OutsideWriter;
        if left_alone || matches!(known.decision.step, Step::Refuse | Step::Hold) {
            drift(ctx, subject, known);
        } else if drift_of(&known.decision).is_some() && drift_in(&subject.status).is_none() {
            ctx.memory.owe_drift(&subject.uid);
        }
        match write(ctx, &subject.term, &subject.object, &status, &known.decision).await? {
            Some(written) => subject.object = written,
            None => return Ok(false),
        }
    }
    subject.status = status;
    ctx.memory.outcome_told(&subject.uid);
    if known.decision.step.phase() == Phase::Done {
        measure_convergence(ctx, subject);
    }
    Ok(true)
}

/// Writes the status of a binding that no grant could cover, if it says anything new.
pub async fn unentitled(
    ctx: &Arc<Context>,
    term: &Term,
    object: &Arc<InstanceRoleBinding>,
    desired: &Desired,
    decision: &Decision,
) -> Result<(), kubernetes::Error> {
    let uid = object.uid().unwrap_or_default();
    let before = reconcile::status(object, ctx, &uid);
    let asked = gather::unheard_request(object).then(|| object.annotations().get(REQUESTED_AT)).flatten();
    let status = Report {
        before: &before,
        generation: object.metadata.generation,
        desired,
        resolution: &Resolution::NotAsked,
        place: None,
        view: None,
        decision,
        contended: None,
        heard: asked.map(String::as_str),
        leaving: object.metadata.deletion_timestamp.is_some(),
    }
    .status(Timestamp::now());
    if object.status.as_ref() != Some(&status) {
        if write(ctx, term, object, &status, decision).await?.is_none() {
            return Ok(());
        }
        ctx.memory.outcome_told(&uid);
    }
    ctx.memory.at_rest(&uid);
    Ok(())
}

async fn write(
    ctx: &Arc<Context>,
    term: &Term,
    object: &Arc<InstanceRoleBinding>,
    status: &InstanceRoleBindingStatus,
    decision: &Decision,
) -> Result<Option<Arc<InstanceRoleBinding>>, kubernetes::Error> {
    let awaited = is_awaited(object, status);
    let turn = if awaited { None } else { ctx.teller.ask(&Key::of(&**object)) };
    if !awaited && turn.is_none() {
        return Ok(None);
    }
    let (reason, phase) = (decision.reason.as_str(), decision.step.phase());
    tracing::debug!(reason, ?phase, "status changes");
    let written = ctx.kubernetes.patch_status(&term.fence, object, status).await;
    if let Some(next) = turn.and_then(|turn| ctx.teller.done(turn)) {
        ctx.bindings.wake(&next);
    }
    let written = Arc::new(written?);
    // Not before: a status that was refused is told again.
    alarm(ctx, object, decision);
    Ok(Some(written))
}

/// Whether somebody waits for the news: who edited, deleted, asked for a look, or whose instance was changed.
fn is_awaited(object: &InstanceRoleBinding, status: &InstanceRoleBindingStatus) -> bool {
    let Some(before) = &object.status else { return false };
    let edited =
        before.observed_generation.is_some_and(|seen| seen >= 0 && Some(seen) != object.metadata.generation);
    edited
        || object.metadata.deletion_timestamp.is_some()
        || before.last_handled_requested_at != status.last_handled_requested_at
        || before.changes != status.changes
}

/// A passing failure of AWS changes nothing for an object that was well: the view says when it has lasted.
fn is_passing(ctx: &Context, subject: &Subject, known: &Known) -> bool {
    let away = matches!(known.decision.reason, Reason::AWSUnavailable | Reason::Throttled);
    let lasting = || subject.connection.fleet.failing(ctx.settings.patience(), Timestamp::now()).is_some();
    away && known.decision.in_sync.is_none()
        && bindings::is_settled(&subject.object)
        && subject.heard.is_none()
        && !lasting()
}

fn measure_convergence(ctx: &Context, subject: &Subject) {
    let Some(since) = ctx.memory.take_since(&subject.uid) else { return };
    // What agreed from the start converged by nothing of ours. Times in status are whole seconds.
    let changed =
        subject.status.changes.first().is_some_and(|c| c.at.0 >= since - SignedDuration::from_secs(1));
    if changed {
        ctx.metrics.convergence(Timestamp::now().duration_since(since).as_secs_f64());
    }
}

/// Drift is told once, when it is found.
pub fn drift(ctx: &Context, subject: &Subject, known: &Known) {
    let Some(cause) = drift_of(&known.decision) else { return };
    let in_status = drift_in(&subject.status) == Some(cause.as_str());
    if !ctx.memory.drift_is_news(&subject.uid, in_status) {
        return;
    }
    let found = known.observed.view.as_ref().map(|view| &view.rows).and_then(Rows::live);
    ctx.metrics.drift(match (cause, found) {
        (Cause::ProfileRecreated, _) => DriftCause::Recreated,
        (_, None) => DriftCause::Detached,
        (_, Some(_)) if known.resolution == Resolution::NoProfile => DriftCause::Attached,
        (_, Some(_)) => DriftCause::Replaced,
    });
    let from = found.map_or("no instance profile", |row| row.profile.as_str());
    let instance = &subject.desired.instance;
    let note =
        format!("{instance} carries {from}, which somebody else brought about; {}", known.decision.message);
    tracing::info!(%instance, found = from, "drift detected");
    let profile = Some(from.to_owned());
    ctx.events.tell(
        &*subject.object,
        Tale { warning: true, reason: "DriftDetected", action: "Observe", note, profile },
    );
}

/// What drift a decision is to mend.
fn drift_of(decision: &Decision) -> Option<Cause> {
    match decision.plan.first() {
        Some((_, cause @ (Cause::DriftDetected | Cause::ProfileRecreated))) => Some(*cause),
        Some((_, Cause::Declared | Cause::Deleted)) | None => None,
    }
}

/// What drift a status shows.
fn drift_in(status: &InstanceRoleBindingStatus) -> Option<&str> {
    let reason = status.plan.first()?.reason.as_str();
    [Cause::DriftDetected, Cause::ProfileRecreated].map(Cause::as_str).contains(&reason).then_some(reason)
}

/// Others keep changing the instance: told with each change of theirs, and counted when it begins.
pub fn contended(ctx: &Context, subject: &Subject, contention: &Contention, begins: bool) {
    if begins {
        ctx.metrics.contention();
    }
    let (instance, changes) = (&subject.desired.instance, contention.changes.len());
    let story = contention.story();
    tracing::warn!(binding = %subject.key, %instance, found = story, "others keep changing the profile of an instance");
    let wait = match contention.due {
        Some(due) => format!("the repair waits until {}", contention::clock(due)),
        None => "the repair waits no longer".to_owned(),
    };
    let note = format!(
        "others keep changing the profile of {instance} ({changes} times that count): it was found to carry {story}; {wait}"
    );
    let profile = contention.changes.last().map(|change| change.found.as_str().to_owned());
    ctx.events.tell(
        &*subject.object,
        Tale { warning: true, reason: "Contended", action: "Observe", note, profile },
    );
}

/// What needs a person is told as an Event when it begins.
fn alarm(ctx: &Context, object: &InstanceRoleBinding, decision: &Decision) {
    let Decision { step: Step::Refuse, reason, message, .. } = decision else { return };
    let conditions = object.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    if condition::find(conditions, ConditionType::Stalled).is_none_or(|c| c.reason != reason.as_str()) {
        tracing::info!(reason = reason.as_str(), message, "a person is needed");
        let (reason, note) = (reason.as_str(), message.clone());
        ctx.events.tell(object, Tale { warning: true, reason, action: "Reconcile", note, profile: None });
    }
}
