//! What was asked of the sandbox, and by whom.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{PERSON, Sandbox};

/// One call in the sandbox's journal.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Its number; numbers grow.
    pub seq: u64,
    /// When it came in, in milliseconds since 1970, by the sandbox's clock.
    pub started_ms: u64,
    /// When it was carried out; absent where it was not.
    pub effect_ms: Option<u64>,
    /// When the client was answered or lost.
    pub ended_ms: Option<u64>,
    /// The caller's account.
    pub account: String,
    /// The Region asked.
    pub region: String,
    /// The action, such as `DescribeInstances`.
    pub action: String,
    /// The parameters as sent.
    pub params: Map<String, Value>,
    /// The caller's ARN, such as `arn:aws:sts::123456789012:assumed-role/name/session`.
    pub identity: String,
    /// The caller's access key.
    pub access_key: String,
    /// `ok`, an error code, `pending`, or `dropped`.
    pub result: String,
    /// The request id in the reply.
    pub request_id: String,
    /// Whether the client got the reply.
    pub delivered: bool,
    /// For the three writes to associations: the instance.
    pub instance: Option<String>,
    /// The ARN of the profile that it carried.
    pub from_profile: Option<String>,
    /// The ARN of the profile asked for.
    pub to_profile: Option<String>,
}

impl Call {
    /// Whether it is one of the three writes to associations.
    pub fn is_write(&self) -> bool {
        matches!(
            self.action.as_str(),
            "AssociateIamInstanceProfile"
                | "ReplaceIamInstanceProfileAssociation"
                | "DisassociateIamInstanceProfile"
        )
    }
}

impl Sandbox {
    /// The number of the last call: what comes later has a greater one.
    ///
    /// # Errors
    /// The sandbox does not answer.
    pub fn last_call(&self) -> Result<u64> {
        self.get("journal?limit=0")?.get("last").and_then(Value::as_u64).context("a journal without `last`")
    }

    /// The calls after number `since`, in the order in which they came in; 0 gives all.
    ///
    /// # Errors
    /// The sandbox does not answer.
    pub fn calls_since(&self, since: u64) -> Result<Vec<Call>> {
        let mut journal = self.get(&format!("journal?since={since}"))?;
        let entries = journal.get_mut("entries").map(Value::take).unwrap_or_default();
        serde_json::from_value(entries).context("the journal has entries of another form")
    }

    /// The calls that name something in a parameter: an instance's id, a profile's name.
    ///
    /// # Errors
    /// The sandbox does not answer.
    pub fn calls_naming(&self, text: &str) -> Result<Vec<Call>> {
        let mut calls = self.calls_since(0)?;
        calls.retain(|call| call.params.values().any(|value| value.as_str() == Some(text)));
        Ok(calls)
    }

    /// The writes to the associations of one instance by all but [`aws_cli`](Self::aws_cli), oldest first, refused ones
    /// included: the controller's own and those of roles that it assumed.
    ///
    /// # Errors
    /// The sandbox does not answer.
    pub fn writes_in_any_role_to(&self, instance: &str) -> Result<Vec<Call>> {
        let mut calls = self.calls_since(0)?;
        calls.retain(|call| {
            call.is_write()
                && call.instance.as_deref() == Some(instance)
                && !call.access_key.ends_with(PERSON)
        });
        Ok(calls)
    }

    /// The controller's writes to the associations of one instance, oldest first, refused ones included.
    ///
    /// # Errors
    /// The sandbox does not answer.
    pub fn writes_to(&self, instance: &str) -> Result<Vec<Call>> {
        let controller = self.aws_env();
        let mut calls = self.calls_since(0)?;
        calls.retain(|call| {
            call.is_write()
                && call.instance.as_deref() == Some(instance)
                && call.access_key == controller.access_key()
        });
        Ok(calls)
    }
}
