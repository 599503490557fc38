//! What service accounts asked of the API server, as it wrote that down itself.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Every request of a service account once, when it is done, without bodies. Others do not count: tests and
/// people act as the administrator.
pub(super) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: Metadata
    userGroups: [system:serviceaccounts]
  - level: None
";

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiCall {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: String,
    /// The path with its query.
    #[serde(rename = "requestURI")]
    pub uri: String,
    /// When it came in, in UTC with microseconds: `2026-01-02T03:04:05.678901Z`.
    #[serde(rename = "requestReceivedTimestamp")]
    pub at: String,
    /// What is acted on; absent for `/readyz` and the like.
    #[serde(rename = "objectRef")]
    pub object: Option<ApiObject>,
    /// Who asked.
    pub user: ApiUser,
    /// What was answered.
    #[serde(rename = "responseStatus", default)]
    pub status: ApiStatus,
}

/// The object of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub struct ApiObject {
    /// The kind in plural: `instancerolebindings`.
    pub resource: String,
    /// Such as `status`; empty without.
    pub subresource: String,
    /// Empty for what is in no namespace.
    pub namespace: String,
    /// Empty in a list.
    pub name: String,
}

/// The author of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ApiUser {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
}

/// The answer to a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ApiStatus {
    /// The HTTP status; 0 when there was no answer.
    pub code: u16,
}

impl ApiCall {
    /// Whether it asks for a change.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// Whether this service account made it.
    pub fn is_by(&self, namespace: &str, service_account: &str) -> bool {
        self.user.username == format!("system:serviceaccount:{namespace}:{service_account}")
    }

    /// The kind it acts on, with its subresource: `instancerolebindings/status`.
    pub fn target(&self) -> String {
        match &self.object {
            None => String::new(),
            Some(object) if object.subresource.is_empty() => object.resource.clone(),
            Some(object) => format!("{}/{}", object.resource, object.subresource),
        }
    }
}

pub(super) fn read(log: &Path) -> Result<Vec<ApiCall>> {
    let file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()), // nobody has asked yet
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", log.display())),
    };
    let mut calls = Vec::new();
    for line in BufReader::new(file).lines() {
        // The last line may be half written.
        if let Ok(call) = serde_json::from_str(&line?) {
            calls.push(call);
        }
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_written_line_is_left_for_the_next_look() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("audit.log");
        let whole = r#"{"verb":"patch","requestURI":"/apis/x","user":{"username":"u"},"objectRef":{"resource":"bindings",
            "subresource":"status","name":"b"},"responseStatus":{"code":200},"requestReceivedTimestamp":"t"}"#
            .replace('\n', "");
        std::fs::write(&log, format!("{whole}\n{{\"verb\":\"pat")).unwrap();
        let calls = read(&log).unwrap();
        assert_eq!(calls.len(), 1);
        assert!(calls[0].is_write());
        assert_eq!((calls[0].target().as_str(), calls[0].status.code), ("bindings/status", 200));
        assert_eq!(read(&dir.path().join("none")).unwrap(), []);
    }
}
