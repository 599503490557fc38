//! The trail of changes: one log line for each write that went out to EC2, and one Event unless EC2 refused it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::act::name;
use super::context::Context;
use super::events::Tale;
use super::reconcile::Subject;
use crate::api::InstanceRoleBinding;
use crate::decide::{Decision, Write};
use crate::ec2::{Error, Reply};

/// The field manager that the API server has down for what the binding declares: who asked. The newest, if several agree.
pub fn declarer(object: &InstanceRoleBinding) -> Option<String> {
    let declares = |entry: &&ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        let choice = fields.and_then(|fields| fields.pointer("/f:spec/f:instanceProfile"));
        entry.subresource.is_none() && choice.is_some()
    };
    let entries = object.metadata.managed_fields.as_deref().unwrap_or_default();
    let newest = entries.iter().filter(declares).max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    newest?.manager.clone()
}

/// The line of a write, under its own message and with fields of its own.
macro_rules! line {
    ($subject:expr, $write:expr, $decision:expr, { $($own:tt)* }, $message:literal) => {{
        let (subject, write, place) = ($subject, $write, &$subject.connection.place);
        tracing::info!(
            binding = %subject.key,
            namespace = subject.key.namespace,
            name = subject.key.name,
            uid = subject.uid,
            generation = subject.object.metadata.generation,
            declared_by = subject.declared_by.as_deref(),
            cause = cause($decision),
            grant = subject.status.grant.as_deref(),
            operation = name(write.operation()),
            from = write.from().as_str(),
            to = write.to().as_str(),
            instance = %subject.desired.instance,
            region = %place.region,
            account = %place.account,
            $($own)*
            $message
        );
    }};
}

fn cause(decision: &Decision) -> &'static str {
    decision.plan.first().map_or("Declared", |(_, cause)| cause.as_str())
}

/// EC2 carried the write out.
pub fn changed(ctx: &Context, subject: &Subject, write: &Write, decision: &Decision, reply: &Reply) {
    let request_id = reply.request_id.as_deref().unwrap_or("unknown");
    let association = reply.association.as_ref().map(|row| row.id.as_str()).unwrap_or_default();
    let operation = name(write.operation());
    let span = tracing::Span::current();
    span.record("operation", operation).record("association", association).record("request_id", request_id);
    line!(subject, write, decision, { association, request_id, }, "instance profile changed");

    let instance = &subject.desired.instance;
    let (reason, what) = match write {
        Write::Associate { profile } => {
            ("Associated", format!("attached {} to {instance} ({association})", profile.as_str()))
        }
        Write::Replace { from, profile, .. } => (
            "Replaced",
            format!("replaced {} by {} on {instance} ({association})", from.as_str(), profile.as_str()),
        ),
        Write::Disassociate { from, then: None, .. } => {
            ("Disassociated", format!("took {} off {instance}", from.as_str()))
        }
        Write::Disassociate { from, then: Some(next), .. } => {
            ("Disassociated", format!("took {} off {instance}, to attach {}", from.as_str(), next.as_str()))
        }
    };
    let note = format!("{what}; cause {}, request {request_id}", cause(decision));
    let (from, to) = (write.from(), write.to());
    let profile = Some(to.profile().or(from.profile()).map_or("none", |p| p.as_str()).to_owned());
    let action = name(write.operation());
    ctx.events.tell(&*subject.object, Tale { warning: false, reason, action, note, profile });
    if subject.was_running && matches!(write, Write::Disassociate { then: Some(_), .. }) {
        let note = format!(
            "{instance} was stuck in transition and refused to be replaced, so its association was taken off while running"
        );
        let reason = "StuckAssociationCleared";
        ctx.events.tell(&*subject.object, Tale { warning: true, reason, action, note, profile: None });
    }
}

/// EC2 refused the write, or its answer was lost: then the next look tells.
pub fn failed(ctx: &Context, subject: &Subject, write: &Write, decision: &Decision, error: &Error) {
    let code = error.code();
    if error.outcome_unknown() {
        line!(subject, write, decision, { code, %error, }, "whether the instance profile changed is not known");
        let (instance, action) = (&subject.desired.instance, name(write.operation()));
        let (from, to) = (write.from(), write.to());
        let note = format!(
            "no reply that tells the outcome came to {action} for {instance} ({code}), from {} to {}: the next look tells",
            from.as_str(),
            to.as_str()
        );
        let profile = to.profile().or(from.profile()).map(|profile| profile.as_str().to_owned());
        ctx.events.tell(&*subject.object, Tale { warning: true, reason: "ReplyLost", action, note, profile });
    } else {
        line!(subject, write, decision, { code, %error, }, "EC2 did not carry out the change");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn declared_by(managed_fields: Value) -> Option<String> {
        let object = json!({
            "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
            "metadata": {"name": "web", "managedFields": managed_fields},
            "spec": {"instanceId": "i-0123456789abcdef0", "instanceProfile": {"name": "web"}},
        });
        declarer(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn who_asked_is_who_declared_the_profile_last() {
        let entry = |manager: &str, fields: Value, time: &str| json!({"manager": manager, "fieldsV1": fields, "time": time});
        let profile = json!({"f:spec": {"f:instanceProfile": {}}});
        let suspend = json!({"f:spec": {"f:suspend": {}}});
        let early = "2026-06-01T09:00:00Z";
        let late = "2026-06-01T10:00:00Z";
        let entries = [
            entry("flux", profile.clone(), early),
            entry("kubectl-edit", suspend, late),
            json!({"manager": "x", "fieldsV1": profile, "time": late, "subresource": "status"}),
        ];
        assert_eq!(declared_by(json!(entries)).as_deref(), Some("flux"));
        let [flux, ..] = entries;
        let person = entry("person", json!({"f:spec": {"f:instanceProfile": {}}}), late);
        assert_eq!(declared_by(json!([flux, person])).as_deref(), Some("person"));
        assert_eq!(declared_by(json!([])), None);
    }
}
