//! The `Condition` block of a statement.

use std::collections::BTreeMap;

use serde_json::Value;

use super::wildcard::{arn_matches, matches};

/// Values of the condition keys of one request. Names are compared without regard to case.
#[derive(Debug, Clone, Default)]
pub struct Context(BTreeMap<String, Vec<String>>);

impl Context {
    /// This context with one more key.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.entry(key.to_ascii_lowercase()).or_default().push(value.into());
        self
    }

    fn get(&self, key: &str) -> Option<&[String]> {
        self.0.get(key).map(Vec::as_slice)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    StringEquals,
    StringEqualsIgnoreCase,
    StringLike,
    ArnLike,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Quantifier {
    Single,
    ForAnyValue,
    ForAllValues,
}

/// One operator with one key and its values.
#[derive(Debug, Clone)]
pub struct Condition {
    operator: Operator,
    negated: bool,
    if_exists: bool,
    quantifier: Quantifier,
    key: String,
    values: Vec<String>,
}

/// Keys the sandbox fills in; a `/` at the end stands for a family of keys.
const KEYS: &[&str] = &[
    "ec2:newinstanceprofile",
    "ec2:instanceprofile",
    "ec2:instanceid",
    "ec2:instancetype",
    "ec2:region",
    "ec2:resourcetag/",
    "aws:resourcetag/",
    "aws:requesttag/",
    "aws:tagkeys",
    "aws:requestedregion",
    "aws:principalarn",
    "aws:principalaccount",
    "iam:passedtoservice",
    "iam:associatedresourcearn",
    "sts:externalid",
    "sts:rolesessionname",
];

/// Parses a `Condition` block; all conditions of it must hold.
pub fn parse(block: &Value) -> Result<Vec<Condition>, String> {
    let operators = block.as_object().ok_or("Condition is not an object")?;
    let mut conditions = Vec::new();
    for (name, keys) in operators {
        let keys = keys.as_object().ok_or_else(|| format!("Condition.{name} is not an object"))?;
        for (key, values) in keys {
            let values =
                super::document::strings(values).map_err(|error| format!("{name}.{key}: {error}"))?;
            conditions.push(Condition::new(name, key, values)?);
        }
    }
    Ok(conditions)
}

impl Condition {
    fn new(name: &str, key: &str, values: Vec<String>) -> Result<Self, String> {
        let (quantifier, rest) = match name.split_once(':') {
            Some(("ForAnyValue", rest)) => (Quantifier::ForAnyValue, rest),
            Some(("ForAllValues", rest)) => (Quantifier::ForAllValues, rest),
            Some(_) => return Err(format!("unsupported condition operator {name}")),
            None => (Quantifier::Single, name),
        };
        let (rest, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |rest| (rest, true));
        let (operator, negated) = match rest {
            "StringEquals" => (Operator::StringEquals, false),
            "StringNotEquals" => (Operator::StringEquals, true),
            "StringEqualsIgnoreCase" => (Operator::StringEqualsIgnoreCase, false),
            "StringNotEqualsIgnoreCase" => (Operator::StringEqualsIgnoreCase, true),
            "StringLike" => (Operator::StringLike, false),
            "StringNotLike" => (Operator::StringLike, true),
            "ArnLike" | "ArnEquals" => (Operator::ArnLike, false),
            "ArnNotLike" | "ArnNotEquals" => (Operator::ArnLike, true),
            "Null" => (Operator::Null, false),
            _ => return Err(format!("unsupported condition operator {name}")),
        };
        let key = key.to_ascii_lowercase();
        let known = KEYS.iter().any(|known| match known.strip_suffix('/') {
            Some(_) => key.starts_with(known) && key.len() > known.len(),
            None => key == *known,
        });
        if !known {
            return Err(format!("unsupported condition key {key}"));
        }
        Ok(Self { operator, negated, if_exists, quantifier, key, values })
    }

    /// Whether the condition holds for a request.
    pub fn holds(&self, context: &Context) -> bool {
        let present = context.get(&self.key);
        if self.operator == Operator::Null {
            return self.values.iter().any(|value| value.eq_ignore_ascii_case("true") == present.is_none());
        }
        let Some(actual) = present else {
            return self.if_exists || self.negated || self.quantifier == Quantifier::ForAllValues;
        };
        let one =
            |actual: &String| self.values.iter().any(|value| self.compare(value, actual)) != self.negated;
        match self.quantifier {
            Quantifier::ForAllValues => actual.iter().all(one),
            Quantifier::Single | Quantifier::ForAnyValue => actual.iter().any(one),
        }
    }

    fn compare(&self, value: &str, actual: &str) -> bool {
        match self.operator {
            Operator::StringEquals => value == actual,
            Operator::StringEqualsIgnoreCase => value.eq_ignore_ascii_case(actual),
            Operator::StringLike => matches(value, actual),
            Operator::ArnLike => arn_matches(value, actual),
            Operator::Null => false,
        }
    }
}
