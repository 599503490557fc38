//! Assumed roles.

use super::access::{Caller, is_account};
use super::iam::validation;
use super::{Scope, World, arn};
use crate::error::ApiError;
use crate::policy::Context;
use crate::time::Millis;

/// `AssumeRole`, and `AssumeRoleWithWebIdentity` when `caller` is absent.
#[derive(Debug, Clone, Default)]
pub struct AssumeRole {
    /// `RoleArn`.
    pub role_arn: String,
    /// `RoleSessionName`.
    pub session_name: String,
    /// `ExternalId`.
    pub external_id: Option<String>,
    /// `SourceIdentity`; the trust policy must allow `sts:SetSourceIdentity` as well.
    pub source_identity: Option<String>,
    /// `DurationSeconds`.
    pub duration_seconds: Option<i64>,
}

/// Credentials of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `ASIA…`, naming the account.
    pub access_key: String,
    /// The secret; never checked.
    pub secret: String,
    /// The session token; must come with the key.
    pub token: String,
    /// When they expire.
    pub expires: Millis,
    /// The assumed-role principal.
    pub arn: String,
    /// `AROA…:session`.
    pub id: String,
}

/// A session of a role.
#[derive(Debug)]
pub(super) struct Session {
    pub account: String,
    pub partition: String,
    pub caller: Caller,
    pub token: String,
    pub expires: Millis,
}

impl World {
    /// `AssumeRole`: the caller's policies, the role, its trust policy and external id must all agree.
    ///
    /// # Errors
    /// `AccessDenied`, which does not tell a role that is absent from one that does not trust the caller.
    pub fn assume_role(
        &mut self,
        now: Millis,
        scope: &Scope,
        request: &AssumeRole,
    ) -> Result<Credentials, ApiError> {
        check(request)?;
        let mut context = Context::default().with("sts:RoleSessionName", &request.session_name);
        if let Some(external_id) = &request.external_id {
            context = context.with("sts:ExternalId", external_id);
        }
        let mut actions = vec!["sts:AssumeRole"];
        actions.extend(request.source_identity.as_ref().map(|_| "sts:SetSourceIdentity"));
        for action in actions {
            self.check_access(scope, action, &request.role_arn, &request.role_arn, &context)?;
            let trusted = self.role_by_arn(&request.role_arn).is_some_and(|role| {
                role.trust.trusts_identity(&scope.account, &scope.caller.identity, action, &context)
            });
            if !trusted {
                return Err(denied(&format!("User: {}", scope.caller.arn), action, &request.role_arn));
            }
        }
        self.open_session(now, request)
    }

    /// `AssumeRoleWithWebIdentity`: the role must trust a federated identity; the token is not looked into.
    ///
    /// # Errors
    /// `AccessDenied`.
    pub fn assume_role_with_web_identity(
        &mut self,
        now: Millis,
        request: &AssumeRole,
    ) -> Result<Credentials, ApiError> {
        check(request)?;
        if !self.role_by_arn(&request.role_arn).is_some_and(|role| role.trust.trusts_federation()) {
            let message = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
            return Err(ApiError::new("AccessDenied", 403, message));
        }
        self.open_session(now, request)
    }

    fn role_by_arn(&mut self, arn: &str) -> Option<super::iam::Role> {
        let parsed = arn::parse_iam(arn, "role")?;
        let role = self.iam_of(&parsed.partition, &parsed.account).role(&parsed.name)?;
        (role.arn == arn).then(|| role.clone())
    }

    fn open_session(&mut self, now: Millis, request: &AssumeRole) -> Result<Credentials, ApiError> {
        let parsed = arn::parse_iam(&request.role_arn, "role").filter(|arn| is_account(&arn.account));
        let (Some(parsed), Some(role)) = (parsed, self.role_by_arn(&request.role_arn)) else {
            return Err(denied("The caller", "sts:AssumeRole", &request.role_arn));
        };
        let life = match self.settings.session_ms {
            0 => Millis::try_from(request.duration_seconds.unwrap_or(3600)).unwrap_or(3600) * 1000,
            fixed => fixed,
        };
        let (account, session) = (&parsed.account, &request.session_name);
        let credentials = Credentials {
            access_key: format!("ASIA{account}{}", self.mint.letters(8)),
            secret: self.mint.letters(40),
            token: self.mint.letters(120),
            expires: now.saturating_add(life),
            arn: format!("arn:{}:sts::{account}:assumed-role/{}/{session}", parsed.partition, role.name),
            id: format!("{}:{session}", role.id),
        };
        self.access.sessions.insert(
            credentials.access_key.clone(),
            Session {
                account: parsed.account.clone(),
                partition: parsed.partition,
                caller: Caller {
                    arn: credentials.arn.clone(),
                    user_id: credentials.id.clone(),
                    identity: role.arn,
                },
                token: credentials.token.clone(),
                expires: credentials.expires,
            },
        );
        Ok(credentials)
    }
}

fn check(request: &AssumeRole) -> Result<(), ApiError> {
    let name = &request.session_name;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    if !(2..=64).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(validation(format!("Value '{name}' at 'roleSessionName' failed to satisfy constraint")));
    }
    if request.duration_seconds.is_some_and(|seconds| !(900..=43200).contains(&seconds)) {
        return Err(validation("Value at 'durationSeconds' failed to satisfy constraint".to_owned()));
    }
    if arn::parse_iam(&request.role_arn, "role").is_none() {
        return Err(validation(format!("{} is invalid", request.role_arn)));
    }
    Ok(())
}

fn denied(who: &str, action: &str, role: &str) -> ApiError {
    let message = format!("{who} is not authorized to perform: {action} on resource: {role}");
    ApiError::new("AccessDenied", 403, message)
}
