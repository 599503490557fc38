//! The permit: without one no write goes out.
//!
//! It has one maker, which decides once more, right before the call, by grants, namespaces, rivals and tags as they
//! are then: the change may have waited for its turn, and its intent for the API server.

use std::sync::Arc;

use kube::ResourceExt;

use super::confirm::confirm;
use super::context::Context;
use super::entitle::Recount;
use super::kubernetes;
use super::reconcile::{self, Subject};
use crate::api::InstanceRoleBinding;
use crate::api::binding::InstanceRoleBindingStatus;
use crate::decide::{Step, Write};

/// How often it is decided once more: a look may have grown old in between, and is made again once.
const ATTEMPTS: usize = 3;

/// The right to make one write now.
#[derive(Debug)]
pub struct Permit<'a> {
    write: &'a Write,
}

impl<'a> Permit<'a> {
    /// Decides once more; a permit only if that is still the write, and its intent is recorded along with what was
    /// there before. `before` is the status that the write was decided by.
    pub async fn check(
        ctx: &Arc<Context>,
        subject: &mut Subject,
        write: &'a Write,
        before: &InstanceRoleBindingStatus,
    ) -> Result<Option<Self>, kubernetes::Error> {
        let intent = subject.status.changes.first().filter(|change| change.request_id.is_none());
        let recorded = intent.is_some_and(|change| change.operation == write.operation())
            && subject.status.previous.is_some();
        confirm(ctx, &subject.key.namespace).await?;
        for _ in 0..ATTEMPTS {
            // The looks below take time, in which people edit.
            if ctx.bindings.get(&subject.key).is_none_or(|newest| is_newer(&newest, &subject.object)) {
                return Ok(None);
            }
            let known = reconcile::judge_by(ctx, subject, before, Recount::Always)?;
            match known.decision.step {
                Step::Write(now) if now == *write => return Ok(recorded.then_some(Self { write })),
                Step::Look(evidence) => {
                    if reconcile::look(&subject.connection, &subject.desired, evidence).await.is_err() {
                        return Ok(None);
                    }
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// What may be written.
    pub fn write(&self) -> &'a Write {
        self.write
    }
}

/// Whether somebody edited, deleted or made the object anew. The store may be behind what was just written, never ahead
/// of what people declared.
fn is_newer(newest: &InstanceRoleBinding, judged: &InstanceRoleBinding) -> bool {
    newest.uid() != judged.uid()
        || newest.metadata.generation > judged.metadata.generation
        || (newest.metadata.deletion_timestamp.is_some() && judged.metadata.deletion_timestamp.is_none())
}
