//! An answer that refuses, as EC2, IAM and STS would word it.

use std::fmt;

/// Code, HTTP status and message of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The `<Code>` of the reply.
    pub code: String,
    /// The HTTP status.
    pub status: u16,
    /// The `<Message>` of the reply.
    pub message: String,
}

impl ApiError {
    /// Any refusal.
    pub fn new(code: &str, status: u16, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), status, message: message.into() }
    }

    /// A refusal with HTTP status 400.
    pub fn bad(code: &str, message: impl Into<String>) -> Self {
        Self::new(code, 400, message)
    }

    /// `InvalidParameterValue`.
    pub fn invalid_value(message: impl Into<String>) -> Self {
        Self::bad("InvalidParameterValue", message)
    }

    /// `MissingParameter`, naming the parameter.
    pub fn missing(parameter: &str) -> Self {
        Self::bad("MissingParameter", format!("The request must contain the parameter {parameter}"))
    }

    /// IAM's `NoSuchEntity` (404).
    pub fn no_such_entity(message: impl Into<String>) -> Self {
        Self::new("NoSuchEntity", 404, message)
    }

    /// `DryRunOperation` (412): what would have been a success (CAP-T).
    pub fn dry_run() -> Self {
        Self::new("DryRunOperation", 412, "Request would have succeeded, but DryRun flag is set.")
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({}): {}", self.code, self.status, self.message)
    }
}

impl std::error::Error for ApiError {}
