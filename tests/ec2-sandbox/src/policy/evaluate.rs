//! Allow or deny.

use super::condition::Context;
use super::document::{OneOf, Policy, Principal, Statement};
use super::wildcard::{action_matches, arn_matches};

/// What the policies say about one action on one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A statement allows it and none denies it.
    Allowed,
    /// No statement allows it.
    NotAllowed,
    /// A statement denies it.
    Denied,
}

/// Evaluates the policies of an identity.
pub fn evaluate<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    action: &str,
    resource: &str,
    context: &Context,
) -> Verdict {
    let mut verdict = Verdict::NotAllowed;
    for statement in policies.into_iter().flat_map(|policy| &policy.statements) {
        let on_resource =
            statement.resources.as_ref().is_none_or(|resources| matches(resources, resource, arn_matches));
        if on_resource && statement.applies(action, context) {
            if !statement.allow {
                return Verdict::Denied;
            }
            verdict = Verdict::Allowed;
        }
    }
    verdict
}

impl Policy {
    /// Whether this trust policy lets a service (such as `ec2.amazonaws.com`) assume the role.
    pub fn trusts_service(&self, service: &str) -> bool {
        self.trusts("sts:AssumeRole", &Context::default(), |principal| {
            principal.value == "*" || (principal.kind == "Service" && principal.value == service)
        })
    }

    /// Whether this trust policy lets the identity `arn` of `account` do `action` (`sts:AssumeRole`,
    /// `sts:SetSourceIdentity`).
    pub fn trusts_identity(&self, account: &str, arn: &str, action: &str, context: &Context) -> bool {
        self.trusts(action, context, |principal| {
            principal.kind == "AWS"
                && (principal.value == "*"
                    || principal.value == account
                    || principal.value == arn
                    || principal.value.ends_with(&format!("::{account}:root")))
        })
    }

    /// Whether this trust policy lets any federated identity assume the role.
    pub fn trusts_federation(&self) -> bool {
        self.trusts("sts:AssumeRoleWithWebIdentity", &Context::default(), |p| p.kind == "Federated")
    }

    fn trusts(&self, action: &str, context: &Context, who: impl Fn(&Principal) -> bool) -> bool {
        let applying = |allow: bool| {
            self.statements.iter().any(|statement| {
                statement.allow == allow
                    && statement.principals.iter().any(&who)
                    && statement.applies(action, context)
            })
        };
        applying(true) && !applying(false)
    }
}

impl Statement {
    fn applies(&self, action: &str, context: &Context) -> bool {
        matches(&self.actions, action, action_matches)
            && self.conditions.iter().all(|condition| condition.holds(context))
    }
}

fn matches(one_of: &OneOf, text: &str, compare: fn(&str, &str) -> bool) -> bool {
    one_of.patterns.iter().any(|pattern| compare(pattern, text)) != one_of.negated
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const INSTANCE: &str = "arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0";

    fn verdict(statement: serde_json::Value, context: &Context) -> Verdict {
        let policy = Policy::of_identity(&json!({"Version": "2012-10-17", "Statement": statement})).unwrap();
        evaluate([&policy], "ec2:AssociateIamInstanceProfile", INSTANCE, context)
    }

    #[test]
    fn what_nothing_allows_is_not_allowed() {
        let reads = json!([{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}]);
        assert_eq!(verdict(reads, &Context::default()), Verdict::NotAllowed);
    }

    #[test]
    fn a_denial_outweighs_an_allowance() {
        let both = json!([
            {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"},
            {"Effect": "Deny", "Action": "ec2:Associate*", "Resource": "arn:aws:ec2:*:*:instance/*"}]);
        assert_eq!(verdict(both, &Context::default()), Verdict::Denied);
    }

    #[test]
    fn conditions_of_the_captures() {
        let context = Context::default()
            .with("ec2:NewInstanceProfile", "arn:aws:iam::123456789012:instance-profile/managed/app")
            .with("aws:ResourceTag/iam-managed", "true");
        for (story, condition, expected) in [
            ("no current profile: Null true holds", json!({"Null": {"ec2:InstanceProfile": "true"}}), true),
            (
                "no current profile: Null false fails",
                json!({"Null": {"ec2:InstanceProfile": "false"}}),
                false,
            ),
            (
                "a current profile is asked for and absent",
                json!({"ArnLike": {"ec2:InstanceProfile": "arn:aws:iam::123456789012:instance-profile/*"}}),
                false,
            ),
            (
                "the new profile under its path",
                json!({"ArnLike": {"ec2:NewInstanceProfile": "arn:aws:iam::123456789012:instance-profile/managed/*"}}),
                true,
            ),
            ("the right tag", json!({"StringEquals": {"aws:ResourceTag/iam-managed": "true"}}), true),
            ("the wrong tag", json!({"StringEquals": {"aws:ResourceTag/iam-managed": "false"}}), false),
            ("another tag", json!({"StringEquals": {"aws:ResourceTag/other": "true"}}), false),
            (
                "another tag, if it exists",
                json!({"StringEqualsIfExists": {"aws:ResourceTag/o": "true"}}),
                true,
            ),
            ("absent and negated", json!({"StringNotEquals": {"aws:ResourceTag/other": "true"}}), true),
            ("any value", json!({"ForAnyValue:StringLike": {"aws:ResourceTag/iam-managed": "tr*"}}), true),
        ] {
            let statement =
                json!({"Effect": "Allow", "Action": "ec2:*", "Resource": "*", "Condition": condition});
            let expected = if expected { Verdict::Allowed } else { Verdict::NotAllowed };
            assert_eq!(verdict(statement, &context), expected, "{story}");
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_refused() {
        for (member, statement) in [
            ("NumericEquals", json!({"Condition": {"NumericEquals": {"ec2:InstanceID": "1"}}})),
            ("aws:sourceip", json!({"Condition": {"StringEquals": {"aws:SourceIp": "1"}}})),
            ("${", json!({"Resource": "arn:aws:iam::${aws:PrincipalAccount}:role/*"})),
            ("Principle", json!({"Principle": "*"})),
        ] {
            let mut whole = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
            whole.as_object_mut().unwrap().extend(statement.as_object().unwrap().clone());
            let refused = Policy::of_identity(&json!({"Statement": [whole]})).unwrap_err();
            assert!(refused.contains(member), "{refused}");
        }
    }

    #[test]
    fn a_trust_policy_asks_for_its_external_id() {
        let trust = Policy::of_trust(&json!({"Statement": [{
            "Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
            "Condition": {"StringEquals": {"sts:ExternalId": "secret"}}}]}))
        .unwrap();
        let who = "arn:aws:iam::123456789012:user/me";
        let trusted =
            |context: &Context| trust.trusts_identity("123456789012", who, "sts:AssumeRole", context);
        assert!(!trusted(&Context::default()));
        assert!(!trusted(&Context::default().with("sts:ExternalId", "guess")));
        assert!(trusted(&Context::default().with("sts:ExternalId", "secret")));
        assert!(!trust.trusts_service("ec2.amazonaws.com"));
    }
}
