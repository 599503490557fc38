//! A policy document and its statements.

use serde_json::Value;

use super::condition::{self, Condition};

/// A parsed policy document.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(super) statements: Vec<Statement>,
}

#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub allow: bool,
    pub actions: OneOf,
    /// Absent in the trust policy of a role.
    pub resources: Option<OneOf>,
    pub principals: Vec<Principal>,
    pub conditions: Vec<Condition>,
}

/// `Action` or `NotAction`, `Resource` or `NotResource`.
#[derive(Debug, Clone)]
pub(super) struct OneOf {
    pub patterns: Vec<String>,
    pub negated: bool,
}

/// A principal of a trust policy: its kind (`AWS`, `Service`, `Federated`) and value.
#[derive(Debug, Clone)]
pub(super) struct Principal {
    pub kind: String,
    pub value: String,
}

impl Policy {
    /// Parses a policy for an identity: every statement has a `Resource`, none a `Principal`.
    ///
    /// # Errors
    /// What is wrong, or not supported by the sandbox.
    pub fn of_identity(document: &Value) -> Result<Self, String> {
        let policy = Self::parse(document)?;
        for statement in &policy.statements {
            if statement.resources.is_none() {
                return Err("a statement has no Resource".to_owned());
            }
            if !statement.principals.is_empty() {
                return Err("a policy of an identity has no Principal".to_owned());
            }
        }
        Ok(policy)
    }

    /// Parses the trust policy of a role: every statement has a `Principal`, none a `Resource`.
    ///
    /// # Errors
    /// What is wrong, or not supported by the sandbox.
    pub fn of_trust(document: &Value) -> Result<Self, String> {
        let policy = Self::parse(document)?;
        for statement in &policy.statements {
            if statement.resources.is_some() || statement.principals.is_empty() {
                return Err("a trust policy has a Principal and no Resource".to_owned());
            }
        }
        Ok(policy)
    }

    fn parse(document: &Value) -> Result<Self, String> {
        let members = document.as_object().ok_or("a policy is a JSON object")?;
        if let Some(unknown) =
            members.keys().find(|key| !["Version", "Id", "Statement"].contains(&key.as_str()))
        {
            return Err(format!("unknown member {unknown}"));
        }
        let statements = match members.get("Statement") {
            Some(Value::Array(statements)) => statements.iter().map(statement).collect::<Result<_, _>>()?,
            Some(one @ Value::Object(_)) => vec![statement(one)?],
            _ => return Err("a policy has a Statement".to_owned()),
        };
        Ok(Self { statements })
    }
}

fn statement(value: &Value) -> Result<Statement, String> {
    const MEMBERS: [&str; 8] =
        ["Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition", "Principal"];
    let members = value.as_object().ok_or("a statement is a JSON object")?;
    if let Some(unknown) = members.keys().find(|key| !MEMBERS.contains(&key.as_str())) {
        return Err(format!("unsupported member {unknown} of a statement"));
    }
    let allow = match members.get("Effect").and_then(Value::as_str) {
        Some("Allow") => true,
        Some("Deny") => false,
        _ => return Err("Effect is Allow or Deny".to_owned()),
    };
    let actions =
        one_of(members.get("Action"), members.get("NotAction"))?.ok_or("a statement has no Action")?;
    let resources = one_of(members.get("Resource"), members.get("NotResource"))?;
    let principals = members.get("Principal").map(principals).transpose()?.unwrap_or_default();
    let conditions = members.get("Condition").map(condition::parse).transpose()?.unwrap_or_default();
    Ok(Statement { allow, actions, resources, principals, conditions })
}

fn one_of(plain: Option<&Value>, negated: Option<&Value>) -> Result<Option<OneOf>, String> {
    match (plain, negated) {
        (Some(_), Some(_)) => Err("a statement has both a member and its Not".to_owned()),
        (Some(value), None) => Ok(Some(OneOf { patterns: strings(value)?, negated: false })),
        (None, Some(value)) => Ok(Some(OneOf { patterns: strings(value)?, negated: true })),
        (None, None) => Ok(None),
    }
}

fn principals(value: &Value) -> Result<Vec<Principal>, String> {
    if value.as_str() == Some("*") {
        return Ok(vec![Principal { kind: "AWS".to_owned(), value: "*".to_owned() }]);
    }
    let kinds = value.as_object().ok_or("Principal is \"*\" or an object")?;
    let mut principals = Vec::new();
    for (kind, values) in kinds {
        if !["AWS", "Service", "Federated"].contains(&kind.as_str()) {
            return Err(format!("unsupported kind of principal {kind}"));
        }
        for value in strings(values)? {
            principals.push(Principal { kind: kind.clone(), value });
        }
    }
    Ok(principals)
}

/// A string or a list of strings, without policy variables.
pub(super) fn strings(value: &Value) -> Result<Vec<String>, String> {
    let list = match value {
        Value::Array(list) => list.iter().collect(),
        one => vec![one],
    };
    list.into_iter()
        .map(|value| match value {
            Value::String(text) if text.contains("${") => {
                Err(format!("policy variables are not supported: {text}"))
            }
            Value::String(text) => Ok(text.clone()),
            Value::Bool(truth) => Ok(truth.to_string()),
            other => Err(format!("{other} is not a string")),
        })
        .collect()
}
