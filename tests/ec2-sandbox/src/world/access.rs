//! Who calls: access keys, sessions of assumed roles, and where a call goes.

use std::collections::{HashMap, HashSet};

use super::arn::partition_of;
use super::{World, sts};
use crate::error::ApiError;
use crate::time::Millis;

/// The account of access keys that name none.
pub fn default_account() -> &'static str {
    "123456789012"
}

/// The identity behind an access key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The principal as `GetCallerIdentity` and denials show it.
    pub arn: String,
    /// The unique id, `AIDA…` or `AROA…:session`.
    pub user_id: String,
    /// What policies are attached to: the user's ARN, or the role's for a session.
    pub identity: String,
}

impl Caller {
    /// Whether it is the admin API, which no policy binds.
    pub(super) fn is_sandbox(&self) -> bool {
        self.user_id == "sandbox"
    }
}

/// Where a call goes and who makes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// The caller's account, which is also the account the call acts in.
    pub account: String,
    /// The Region of the credential scope.
    pub region: String,
    /// Who calls.
    pub caller: Caller,
}

impl Scope {
    /// The partition of the Region.
    pub fn partition(&self) -> &'static str {
        partition_of(&self.region)
    }
}

/// Sessions, and keys that were switched off.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub sessions: HashMap<String, sts::Session>,
    pub inactive: HashSet<String>,
    /// Users' keys whose calls answer "expired".
    pub expired: HashSet<String>,
}

impl World {
    /// Who signed a request with `access_key` for `region`. EC2 words its refusals differently from IAM and STS
    /// (aws-semantics 1.5: `AuthFailure`, `RequestExpired` against `InvalidClientTokenId`, `ExpiredToken`).
    ///
    /// # Errors
    /// A key that was switched off, a session that expired, a wrong or missing session token.
    pub fn identify(
        &self,
        now: Millis,
        service: &str,
        region: &str,
        access_key: &str,
        token: Option<&str>,
    ) -> Result<Scope, ApiError> {
        if self.access.inactive.contains(access_key) {
            return Err(invalid(service));
        }
        if self.access.expired.contains(access_key) {
            return Err(expired(service));
        }
        let Some(session) = self.access.sessions.get(access_key) else {
            return Ok(user(region, access_key));
        };
        if token != Some(session.token.as_str()) || session.partition != partition_of(region) {
            return Err(invalid(service));
        }
        if now >= session.expires {
            return Err(expired(service));
        }
        Ok(Scope {
            account: session.account.clone(),
            region: region.to_owned(),
            caller: session.caller.clone(),
        })
    }

    /// The identity that policies for an access key are attached to.
    pub fn identity_of(&self, access_key: &str, region: &str) -> String {
        match self.access.sessions.get(access_key) {
            Some(session) => session.caller.identity.clone(),
            None => user(region, access_key).caller.identity,
        }
    }

    /// Makes a key answer `state`: `expired`, `inactive` or `active` again. `who` is an access key id, or the
    /// ARN of a role, which means every session of it that exists now. Says how many keys that were.
    ///
    /// # Errors
    /// A state that does not exist.
    pub fn set_credentials(&mut self, now: Millis, who: &str, state: &str) -> Result<usize, String> {
        let keys: Vec<String> = if who.starts_with("arn:") {
            let sessions = self.access.sessions.iter();
            sessions
                .filter(|(_, session)| session.caller.identity == who)
                .map(|(key, _)| key.clone())
                .collect()
        } else {
            vec![who.to_owned()]
        };
        for key in &keys {
            match state {
                "expired" => match self.access.sessions.get_mut(key) {
                    Some(session) => session.expires = session.expires.min(now),
                    None => drop(self.access.expired.insert(key.clone())),
                },
                "inactive" => drop(self.access.inactive.insert(key.clone())),
                "active" => {
                    self.access.inactive.remove(key);
                    self.access.expired.remove(key);
                }
                other => return Err(format!("state is expired, inactive or active, not {other}")),
            }
        }
        Ok(keys.len())
    }
}

/// A key that is no session is a user's: `AKIA` or `ASIA`, 12 digits of account, and the user's name; any other
/// key is a user of the default account named like the key.
fn user(region: &str, access_key: &str) -> Scope {
    let rest = access_key.strip_prefix("AKIA").or_else(|| access_key.strip_prefix("ASIA"));
    let named = rest.and_then(|rest| rest.split_at_checked(12)).filter(|(account, _)| is_account(account));
    let (account, name) = named.unwrap_or((default_account(), access_key));
    let partition = partition_of(region);
    let resource = if name.is_empty() { "root".to_owned() } else { format!("user/{name}") };
    let arn = format!("arn:{partition}:iam::{account}:{resource}");
    Scope {
        account: account.to_owned(),
        region: region.to_owned(),
        caller: Caller { identity: arn.clone(), arn, user_id: format!("AIDA{access_key}") },
    }
}

/// Twelve digits.
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn invalid(service: &str) -> ApiError {
    if service == "ec2" {
        let message = "AWS was not able to validate the provided access credentials";
        return ApiError::new("AuthFailure", 401, message);
    }
    let message = "The security token included in the request is invalid.";
    ApiError::new("InvalidClientTokenId", 403, message)
}

fn expired(service: &str) -> ApiError {
    if service == "ec2" {
        return ApiError::bad("RequestExpired", "Request has expired.");
    }
    ApiError::new("ExpiredToken", 403, "The security token included in the request is expired")
}
