//! One write to EC2: its turn, its intent, the call, and what became of it.
//!
//! Intent before effect: before the call its entry stands in `status.changes`, written with the resourceVersion
//! of the object that was judged. So a crash leaves a trace, a newer spec stops the write, and a process whose
//! successor has already acted on the object is refused by the API server before it reaches AWS.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use super::context::Context;
use super::permit::Permit;
use super::reconcile::Subject;
use super::report;
use super::slots::Slot;
use super::{kubernetes, memory, trail};
use crate::api::binding::{InstanceRoleBindingStatus, Operation};
use crate::decide::{Association, Cause, Decision, Evidence, ProfileRef, TroubleKind, Write, trouble};
use crate::ec2::turns::{Class, Turn};
use crate::ec2::{Connection, Error, Meaning, Reply};
use crate::ids::InstanceId;
use crate::lease::Closed;
use crate::telemetry::MutationResult;

/// What became of a write.
#[derive(Debug)]
pub enum Outcome {
    /// It was called, well or badly; the object stands as returned, its status one patch behind.
    Called,
    /// Its turn has not come; so long it takes.
    Waits(Duration),
    /// The process is about to end.
    Stopping,
}

/// The operation's name at EC2.
pub fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::AssociateIamInstanceProfile => "AssociateIamInstanceProfile",
        Operation::ReplaceIamInstanceProfileAssociation => "ReplaceIamInstanceProfileAssociation",
        Operation::DisassociateIamInstanceProfile => "DisassociateIamInstanceProfile",
    }
}

/// Carries out a decision to write; `status` tells of it. `subject.object` and its status are brought along.
pub async fn act(
    ctx: &Arc<Context>,
    subject: &mut Subject,
    slot: &mut Slot,
    write: &Write,
    decision: &Decision,
    mut status: InstanceRoleBindingStatus,
) -> Result<Outcome, kubernetes::Error> {
    let operation = write.operation();
    if ctx.stopping.load(Ordering::Relaxed) {
        return Ok(Outcome::Stopping);
    }
    subject.term.fence.check()?;
    let place = subject.connection.place.clone();
    let class = class(subject, write, decision);
    if let Write::Disassociate { then: Some(profile), .. } = write
        && let Some(outcome) = rehearse(ctx, subject, slot, profile, class).await
    {
        return Ok(outcome);
    }
    if let Turn::Later(wait) = ctx.turn(&place, operation, &subject.key, class) {
        return Ok(Outcome::Waits(wait));
    }
    let before = subject.status.clone();
    let begun = Timestamp::now();
    report::intend(&mut status, write, begun);
    match ctx.kubernetes.note_intent(&subject.term.fence, &subject.object, &status).await {
        Ok((object, declared_by)) => {
            (subject.object, subject.declared_by) = (Arc::new(object), declared_by);
        }
        Err(error) => {
            ctx.lost_turn(&place, operation, &subject.key);
            return Err(error);
        }
    }
    ctx.memory.outcome_told(&subject.uid);
    // As the API server has it: `at` in whole seconds.
    subject.status = subject.object.status.clone().unwrap_or(status);
    match Permit::check(ctx, subject, slot, write, &before).await {
        Ok(Some(permit)) => {
            let sending = send(&subject.connection, &subject.desired.instance, &permit);
            let result = slot.lend(sending).await;
            if let Err(error @ Error::Late { .. }) = &result {
                tracing::info!(operation = name(operation), %error, "not written");
                not_sent(ctx, subject, operation);
                subject.look_again.instance = true;
                return Ok(Outcome::Called);
            }
            if let Err(error @ Error::NotSent { .. }) = &result {
                tracing::info!(operation = name(operation), %error, "not written");
                not_sent(ctx, subject, operation);
                return Err(kubernetes::Error::NotLeading(Closed));
            }
            ctx.used(&place, operation, &subject.key);
            conclude(ctx, subject, write, decision, result);
        }
        Ok(None) => {
            tracing::info!(
                operation = name(operation),
                "not written: it is not due any more, or not allowed"
            );
            not_sent(ctx, subject, operation);
        }
        Err(error) => {
            not_sent(ctx, subject, operation);
            return Err(error);
        }
    }
    Ok(Outcome::Called)
}

/// Tries the second half of a swap by a dry run, unless that was done a moment ago. It takes a turn as the call itself
/// does, used up whatever the answer: EC2 counts it, and who edits in a loop must not use up what others wait for. None: the
/// first half may be made.
async fn rehearse(
    ctx: &Context,
    subject: &Subject,
    slot: &mut Slot,
    profile: &ProfileRef,
    class: Class,
) -> Option<Outcome> {
    let (place, uid) = (&subject.connection.place, &subject.uid);
    let operation = Operation::AssociateIamInstanceProfile;
    if ctx.memory.has_rehearsed(uid, profile, Timestamp::now()) {
        return None;
    }
    if let Turn::Later(wait) = ctx.turn(place, operation, &subject.key, class) {
        return Some(Outcome::Waits(wait));
    }
    let ec2 = subject.connection.fleet.ec2();
    let answer = slot.lend(ec2.would_associate(&subject.desired.instance, profile)).await;
    ctx.used(place, operation, &subject.key);
    let now = Timestamp::now();
    match answer.as_ref().err().map(Error::meaning) {
        // A dry run stops a write only by a refusal that its second half would meet.
        Some(Meaning::Denied | Meaning::ProfileUnknown) => {}
        meaning => {
            if meaning == Some(Meaning::Throttled) {
                ctx.throttled(place, operation, &subject.key);
            }
            ctx.memory.rehearsed(uid, profile, now);
            return None;
        }
    }
    let error = answer.err()?;
    tracing::info!(%error, "the second half of the swap would be refused, so the first is not begun");
    ctx.memory.failed(uid, error.trouble(), Some(profile), now);
    Some(Outcome::Called)
}

/// Nothing went out: the intent is taken back.
fn not_sent(ctx: &Context, subject: &mut Subject, operation: Operation) {
    ctx.lost_turn(&subject.connection.place, operation, &subject.key);
    if let Some(change) = subject.status.changes.first() {
        ctx.memory.ended(&subject.uid, change.at.0, memory::Outcome::Withdrawn);
    }
    report::withdraw(&mut subject.status);
}

fn class(subject: &Subject, write: &Write, decision: &Decision) -> Class {
    match decision.plan.first().map(|(_, cause)| *cause) {
        _ if subject.swapping && matches!(write, Write::Associate { .. }) => Class::SecondHalf,
        Some(Cause::DriftDetected | Cause::ProfileRecreated) => Class::Drift,
        Some(Cause::Declared | Cause::Deleted) | None => Class::Asked,
    }
}

async fn send(connection: &Connection, instance: &InstanceId, permit: &Permit<'_>) -> Result<Reply, Error> {
    let (ec2, until) = (connection.fleet.ec2(), permit.until());
    match permit.write() {
        Write::Associate { profile } => ec2.associate(instance, profile, until).await,
        Write::Replace { association, profile, .. } => ec2.replace(association, profile, until).await,
        Write::Disassociate { association, .. } => ec2.disassociate(association, until).await,
    }
}

fn conclude(
    ctx: &Context,
    subject: &mut Subject,
    write: &Write,
    decision: &Decision,
    result: Result<Reply, Error>,
) {
    let now = Timestamp::now();
    let begun = subject.status.changes.first().map(|change| change.at.0);
    let (fleet, id, operation) = (&subject.connection.fleet, &subject.desired.instance, write.operation());
    match result {
        Ok(reply) => {
            fleet.wrote(id, &reply, now);
            report::complete(&mut subject.status, reply.request_id.as_deref());
            if let Some(at) = begun {
                ctx.memory.ended(&subject.uid, at, memory::Outcome::Completed(reply.request_id.clone()));
            }
            ctx.metrics.mutation(name(operation), MutationResult::Success);
            ctx.memory.halved(&subject.uid, begun.filter(|_| write.then().is_some()));
            if unchanged(write, reply.association.as_ref()) {
                ctx.memory.failed(&subject.uid, TroubleKind::Unchanged, trouble::brought(write), now);
            } else if subject
                .desired
                .wants(&write.to(), &subject.connection.catalogue.resolve(&subject.desired.declared))
            {
                // Half a swap, or putting back what it took off, heals nothing yet.
                ctx.memory.healed(&subject.uid);
                ctx.memory.as_declared(&subject.uid);
            }
            trail::changed(ctx, subject, write, decision, &reply);
        }
        Err(error) => {
            let unknown = error.outcome_unknown();
            if unknown {
                fleet.wrote_perhaps(id, now);
                if write.then().is_some() {
                    ctx.memory.halved(&subject.uid, begun);
                }
            } else {
                report::withdraw(&mut subject.status);
                if let Some(at) = begun {
                    ctx.memory.ended(&subject.uid, at, memory::Outcome::Withdrawn);
                }
            }
            ctx.metrics.mutation(name(operation), mutation_result(&error));
            trail::failed(ctx, subject, write, decision, &error);
            match error.meaning() {
                // Nothing was done, and nothing is known to be otherwise than it was.
                Meaning::Throttled => {
                    ctx.throttled(&subject.connection.place, operation, &subject.key);
                    return;
                }
                _ if unknown => {
                    let kind = TroubleKind::OutcomeUnknown(error.to_string());
                    ctx.memory.failed(&subject.uid, kind, trouble::brought(write), now)
                }
                _ => ctx.memory.failed(&subject.uid, error.trouble(), trouble::brought(write), now),
            }
            // Whatever the refusal, what was known is out of date.
            subject.look_again = Evidence::ALL;
        }
    }
}

/// Replace with the profile that EC2 thinks is there already answers with the same association (aws-semantics 1.3).
fn unchanged(write: &Write, reply: Option<&Association>) -> bool {
    matches!((write, reply), (Write::Replace { association, .. }, Some(row)) if row.id == *association)
}

fn mutation_result(error: &Error) -> MutationResult {
    match error.meaning() {
        _ if error.outcome_unknown() => MutationResult::Unknown,
        Meaning::Denied | Meaning::Credentials | Meaning::Role => MutationResult::Denied,
        Meaning::Throttled => MutationResult::Throttled,
        Meaning::Unavailable | Meaning::Unexpected => MutationResult::Failed,
        Meaning::Overtaken
        | Meaning::ProfileUnknown
        | Meaning::InstanceUnknown
        | Meaning::InstanceMalformed
        | Meaning::InstanceState
        | Meaning::Protected
        | Meaning::NoSuchEntity
        | Meaning::DryRunPassed => MutationResult::Refused,
    }
}
