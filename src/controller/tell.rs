//! What people are told: status, and the Events about what was found.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::context::Context;
use super::events::Tale;
use super::reconcile::{Known, Subject};
use super::report::Report;
use super::{bindings, kubernetes};
use crate::api::binding::InstanceRoleBindingStatus;
use crate::api::condition::{self, ConditionType};
use crate::decide::{Cause, Decision, Phase, Reason, Resolution, Rows, Step};
use crate::telemetry::DriftCause;

/// The status that follows from what is known.
pub fn told(subject: &Subject, known: &Known) -> InstanceRoleBindingStatus {
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

/// Writes status, if it says anything new.
pub async fn report(
    ctx: &Arc<Context>,
    subject: &mut Subject,
    known: &Known,
) -> Result<(), kubernetes::Error> {
    if is_passing(ctx, subject, known) {
        return Ok(());
    }
    let status = told(subject, known);
    if subject.object.status.as_ref() != Some(&status) {
        alarm(ctx, subject, known);
        let (reason, phase) = (known.decision.reason.as_str(), known.decision.step.phase());
        tracing::debug!(reason, ?phase, "status changes");
        subject.object = Arc::new(ctx.kubernetes.patch_status(&subject.object, &status).await?);
    }
    subject.status = status;
    ctx.memory.outcome_told(&subject.uid);
    if known.decision.step.phase() == Phase::Done {
        measure_convergence(ctx, subject);
    }
    Ok(())
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
    let cause = match known.decision.plan.first() {
        Some((_, cause @ (Cause::DriftDetected | Cause::ProfileRecreated))) => *cause,
        Some((_, Cause::Declared | Cause::Deleted)) | None => return,
    };
    let in_status = subject.status.plan.first().is_some_and(|plan| plan.reason == cause.as_str());
    if in_status || !ctx.memory.drift_is_news(&subject.uid) {
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
        &subject.object,
        Tale { warning: true, reason: "DriftDetected", action: "Observe", note, profile },
    );
}

/// What needs a person is told as an Event when it begins; drift that is only observed, too.
fn alarm(ctx: &Context, subject: &Subject, known: &Known) {
    if matches!(known.decision.step, Step::Refuse | Step::Hold) {
        drift(ctx, subject, known);
    }
    let Decision { step: Step::Refuse, reason, message, .. } = &known.decision else { return };
    let conditions = subject.object.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    if condition::find(conditions, ConditionType::Stalled).is_none_or(|c| c.reason != reason.as_str()) {
        tracing::info!(reason = reason.as_str(), message, "a person is needed");
        let (reason, note) = (reason.as_str(), message.clone());
        ctx.events
            .tell(&subject.object, Tale { warning: true, reason, action: "Reconcile", note, profile: None });
    }
}
