//! Plain requests with JSON in and text out.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use ureq::Agent;
use ureq::http::Request;
use ureq::tls::TlsConfig;

/// A client for one server: its address, and how to talk to it.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    agent: Agent,
    base: String,
    authorization: Option<String>,
}

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) text: String,
    request: String,
}

impl Http {
    /// A server without TLS.
    pub(crate) fn plain(base: &str) -> Self {
        Self::new(base, None, None)
    }

    /// A server with TLS of its own, which knows us by a bearer token.
    pub(crate) fn secure(base: &str, tls: TlsConfig, token: &str) -> Self {
        Self::new(base, Some(tls), Some(format!("Bearer {token}")))
    }

    fn new(base: &str, tls: Option<TlsConfig>, authorization: Option<String>) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_global(Some(Duration::from_secs(60)));
        if let Some(tls) = tls {
            config = config.tls_config(tls);
        }
        Self { agent: config.build().into(), base: base.to_owned(), authorization }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Reply> {
        self.send("GET", path, "application/json", None)
    }

    /// A form, with an `Authorization` of its own.
    pub(crate) fn form(&self, authorization: &str, form: &str) -> Result<Reply> {
        let builder =
            Request::builder().method("POST").uri(&self.base).header("Authorization", authorization);
        let sent =
            self.agent.run(builder.header("Content-Type", "application/x-www-form-urlencoded").body(form)?);
        let mut response = sent.with_context(|| format!("no answer to {form}"))?;
        let text = response.body_mut().read_to_string()?;
        Ok(Reply { status: response.status().as_u16(), text, request: form.to_owned() })
    }

    /// Sends a request. Fails only if there is no answer at all.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let request = format!("{method} {}{path}", self.base);
        let mut builder = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(authorization) = &self.authorization {
            builder = builder.header("Authorization", authorization);
        }
        let sent = match body {
            Some(body) => {
                let builder = builder.header("Content-Type", content_type);
                self.agent.run(builder.body(body.to_string())?)
            }
            None => self.agent.run(builder.body(())?),
        };
        let mut response = sent.with_context(|| format!("no answer to {request}"))?;
        let status = response.status().as_u16();
        // No limit: a list of ten thousand objects is larger than ureq's ten megabytes.
        let text = response.body_mut().with_config().limit(u64::MAX).read_to_string();
        Ok(Reply { status, text: text.with_context(|| format!("half an answer to {request}"))?, request })
    }
}

impl Reply {
    /// The answer, if it says that all went well.
    pub(crate) fn ok(self) -> Result<String> {
        if (200..300).contains(&self.status) { Ok(self.text) } else { Err(self.refused()) }
    }

    /// The answer as JSON, if it says that all went well. `null` where it has no body.
    pub(crate) fn json(self) -> Result<Value> {
        let request = self.request.clone();
        let text = self.ok()?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text)
            .with_context(|| format!("the answer to {request} is not JSON: {text:.500}"))
    }

    /// The answer as JSON, or nothing where it is 404.
    pub(crate) fn json_if_found(self) -> Result<Option<Value>> {
        if self.status == 404 { Ok(None) } else { self.json().map(Some) }
    }

    fn refused(&self) -> anyhow::Error {
        anyhow!("{} was answered with {}: {}", self.request, self.status, self.text.trim())
    }
}
