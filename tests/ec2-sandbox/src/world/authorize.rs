//! Who may do what: policies attached to identities, and the words of a denial (aws-semantics 3.2).

use std::collections::HashMap;

use super::{Scope, World, arn};
use crate::error::ApiError;
use crate::policy::{Context, Policy, Verdict, evaluate};
use crate::time::Millis;

/// Policies by the ARN of a user or role; those of `…:root` hold for identities that have none of their own.
#[derive(Debug, Default)]
pub struct Policies(HashMap<String, Vec<Policy>>);

impl World {
    /// Attaches a policy to the ARN of a user or role, or to an account's root for everybody without one.
    /// An identity without any policy may do everything.
    ///
    /// # Errors
    /// What the sandbox cannot evaluate is refused, with the reason.
    pub fn attach_policy(&mut self, identity: &str, document: &serde_json::Value) -> Result<(), String> {
        let policy = Policy::of_identity(document)?;
        self.policies.0.entry(identity.to_owned()).or_default().push(policy);
        Ok(())
    }

    /// Detaches the policies of one identity, or of all.
    pub fn detach_policies(&mut self, identity: Option<&str>) {
        match identity {
            Some(identity) => drop(self.policies.0.remove(identity)),
            None => self.policies.0.clear(),
        }
    }

    /// EC2's check of an action that knows no resource, such as Describe.
    pub(super) fn authorize_read(&self, scope: &Scope, action: &str) -> Result<(), ApiError> {
        match self.verdict(scope, action, "*", &Context::default()) {
            Verdict::Allowed => Ok(()),
            verdict => {
                let message = format!(
                    "You are not authorized to perform this operation. {}",
                    said(scope, action, None, verdict)
                );
                Err(ApiError::new("UnauthorizedOperation", 403, message))
            }
        }
    }

    /// EC2's check of an action on an instance; `new_profile` is the ARN being attached.
    pub(super) fn authorize_instance(
        &mut self,
        now: Millis,
        scope: &Scope,
        action: &str,
        id: &str,
        new_profile: Option<&str>,
    ) -> Result<(), ApiError> {
        let context = self.instance_context(now, scope, id, new_profile);
        self.authorize_ec2(scope, action, id, context)
    }

    /// EC2's check of an action on an instance in a context made by the caller.
    pub(super) fn authorize_ec2(
        &mut self,
        scope: &Scope,
        action: &str,
        id: &str,
        context: Context,
    ) -> Result<(), ApiError> {
        let resource = arn::instance(&scope.region, &scope.account, id);
        self.decide_ec2(scope, action, &resource, &context)
    }

    /// `iam:PassRole` on a role handed to EC2. The associated resource is always `instance/*`, never the
    /// instance itself (CAP-A).
    pub(super) fn authorize_pass_role(&mut self, scope: &Scope, role: &str) -> Result<(), ApiError> {
        let service =
            if scope.partition() == "aws-cn" { "ec2.amazonaws.com.cn" } else { "ec2.amazonaws.com" };
        let context = Context::default()
            .with("iam:PassedToService", service)
            .with("iam:AssociatedResourceArn", arn::instance(&scope.region, &scope.account, "*"));
        self.decide_ec2(scope, "iam:PassRole", role, &context)
    }

    /// The check of IAM and STS, whose denial is `AccessDenied`.
    pub(super) fn check_access(
        &self,
        scope: &Scope,
        action: &str,
        resource: &str,
        shown: &str,
        context: &Context,
    ) -> Result<(), ApiError> {
        match self.verdict(scope, action, resource, context) {
            Verdict::Allowed => Ok(()),
            verdict => Err(ApiError::new("AccessDenied", 403, said(scope, action, Some(shown), verdict))),
        }
    }

    fn decide_ec2(
        &mut self,
        scope: &Scope,
        action: &str,
        resource: &str,
        context: &Context,
    ) -> Result<(), ApiError> {
        let verdict = self.verdict(scope, action, resource, context);
        if verdict == Verdict::Allowed {
            return Ok(());
        }
        let message = format!(
            "You are not authorized to perform this operation. {}. Encoded authorization failure message: {}",
            said(scope, action, Some(resource), verdict),
            self.mint.letters(240)
        );
        Err(ApiError::new("UnauthorizedOperation", 403, message))
    }

    fn verdict(&self, scope: &Scope, action: &str, resource: &str, context: &Context) -> Verdict {
        if scope.caller.is_sandbox() {
            return Verdict::Allowed;
        }
        let root = format!("arn:{}:iam::{}:root", scope.partition(), scope.account);
        let attached = self.policies.0.get(&scope.caller.identity).or_else(|| self.policies.0.get(&root));
        let Some(policies) = attached else { return Verdict::Allowed };
        let context = context
            .clone()
            .with("aws:RequestedRegion", &scope.region)
            .with("ec2:Region", &scope.region)
            .with("aws:PrincipalArn", &scope.caller.identity)
            .with("aws:PrincipalAccount", &scope.account);
        evaluate(policies, action, resource, &context)
    }

    fn instance_context(
        &mut self,
        now: Millis,
        scope: &Scope,
        id: &str,
        new_profile: Option<&str>,
    ) -> Context {
        let mut context = Context::default().with("ec2:InstanceID", id);
        if let Some(profile) = new_profile {
            context = context.with("ec2:NewInstanceProfile", profile);
        }
        let Some(instance) = self.ec2(scope).get(id) else { return context };
        context = context.with("ec2:InstanceType", &instance.launch.instance_type);
        if let Some(current) = instance.active(now) {
            context = context.with("ec2:InstanceProfile", &current.profile.arn);
        }
        for (key, value) in instance.tags(now).into_iter().flat_map(|tags| tags.iter()) {
            context = context
                .with(&format!("aws:ResourceTag/{key}"), value)
                .with(&format!("ec2:ResourceTag/{key}"), value);
        }
        context
    }
}

/// The sentence AWS says to the denied.
fn said(scope: &Scope, action: &str, resource: Option<&str>, verdict: Verdict) -> String {
    let on = resource.map(|resource| format!(" on resource: {resource}")).unwrap_or_default();
    let why = match verdict {
        Verdict::Denied => "with an explicit deny in an identity-based policy".to_owned(),
        _ => format!("because no identity-based policy allows the {action} action"),
    };
    format!("User: {} is not authorized to perform: {action}{on} {why}", scope.caller.arn)
}
