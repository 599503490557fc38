//! The permit: without one no write goes out.
//!
//! It has one maker, which decides once more, right before the call, by grants, namespaces, rivals and tags as they
//! are then: the change may have waited for its turn, and its intent for the API server.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::confirm::confirm;
use super::context::Context;
use super::entitle::Recount;
use super::kubernetes;
use super::reconcile::{self, Subject};
use super::slots::Slot;
use crate::api::InstanceRoleBinding;
use crate::api::binding::{Change, InstanceRoleBindingStatus};
use crate::decide::{Step, Write};
use crate::ec2::fleet::Pace;

/// How often it is decided once more: a look may have grown old in between, and is made again once.
const ATTEMPTS: usize = 3;

/// How long after its intent a write may go out. Whoever comes after a crash reckons from the intent for how long looks
/// may show the past, so one that waited is withdrawn, and made anew.
pub const TIMELY: SignedDuration = SignedDuration::from_secs(5);

/// The right to make one write now.
#[derive(Debug)]
pub struct Permit<'a> {
    write: &'a Write,
    until: Timestamp,
}

impl<'a> Permit<'a> {
    /// Decides once more; a permit only if that is still the write, and its intent is recorded along with what was
    /// there before. `before` is the status that the write was decided by.
    pub async fn check(
        ctx: &Arc<Context>,
        subject: &mut Subject,
        slot: &mut Slot,
        write: &'a Write,
        before: &InstanceRoleBindingStatus,
    ) -> Result<Option<Self>, kubernetes::Error> {
        let intent = subject.status.changes.first().filter(|change| change.request_id.is_none());
        let intent = intent.filter(|change| change.operation == write.operation()).cloned();
        let intent = intent.filter(|_| subject.status.previous.is_some());
        slot.lend(confirm(ctx, &subject.key.namespace)).await?;
        for _ in 0..ATTEMPTS {
            // The looks below take time, in which people edit.
            if ctx.bindings.get(&subject.key).is_none_or(|newest| is_newer(&newest, &subject.object)) {
                return Ok(None);
            }
            let known = reconcile::judge_by(ctx, subject, before, Recount::Always)?;
            match known.decision.step {
                Step::Write(_) if known.uncounted => return Ok(None),
                Step::Write(now) if now == *write => {
                    let timely = intent.is_some_and(|intent| Self::is_timely(&intent, Timestamp::now()));
                    let until = subject.connection.fleet.fresh_until(&subject.desired.instance);
                    return Ok(until.filter(|_| timely).map(|until| Self { write, until }));
                }
                Step::Look(evidence) => {
                    let Subject { connection, desired, .. } = &*subject;
                    let looking = reconcile::look(connection, desired, evidence, Pace::Hurry);
                    if slot.lend(looking).await.is_err() {
                        return Ok(None);
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Whether the intent is so young that it tells whoever comes next when the write went out.
    fn is_timely(intent: &Change, now: Timestamp) -> bool {
        now.duration_since(intent.at.0) <= TIMELY
    }

    /// What may be written.
    pub fn write(&self) -> &'a Write {
        self.write
    }

    /// By when it must be on its way: tags read longer ago are none to write by.
    pub fn until(&self) -> Timestamp {
        self.until
    }
}

/// Whether somebody edited, deleted or made the object anew. The store may be behind what was just written, never ahead
/// of what people declared.
fn is_newer(newest: &InstanceRoleBinding, judged: &InstanceRoleBinding) -> bool {
    newest.uid() != judged.uid()
        || newest.metadata.generation > judged.metadata.generation
        || (newest.metadata.deletion_timestamp.is_some() && judged.metadata.deletion_timestamp.is_none())
}
