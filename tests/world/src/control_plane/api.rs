//! The Kubernetes API as JSON over HTTP, as the administrator.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::certificates::Certificates;
use crate::http::Http;
use crate::seen;

/// A client. Paths begin with `/api` or `/apis`, such as
/// `/apis/instancerole.dev/v1alpha1/namespaces/team-a/instancerolebindings/web-1`.
#[derive(Debug, Clone)]
pub struct Api {
    http: Http,
}

impl Api {
    pub(super) fn new(server: &str, certificates: &Certificates, token: &str) -> Result<Self> {
        let pem = std::fs::read(&certificates.authority)?;
        let authority = Certificate::from_pem(&pem).context("the authority just made cannot be read")?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(vec![authority])))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build();
        Ok(Self { http: Http::secure(server, tls, token) })
    }

    /// Whether the server says that it is ready; the error says what it said instead.
    pub(super) fn ready(&self) -> Result<()> {
        let said = self.http.get("/readyz")?.ok()?;
        if said.trim() == "ok" { Ok(()) } else { bail!("/readyz says {said}") }
    }

    /// Reads an object or a list.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn get(&self, path: &str) -> Result<Value> {
        let object = self.http.get(path)?.json()?;
        seen::keep(&object)?;
        Ok(object)
    }

    /// Reads an object that may not exist.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn find(&self, path: &str) -> Result<Option<Value>> {
        let object = self.http.get(path)?.json_if_found()?;
        object.as_ref().map_or(Ok(()), seen::keep)?;
        Ok(object)
    }

    /// Creates an object; `path` is that of its list.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.http.send("POST", path, "application/json", Some(object))?.json()
    }

    /// Changes what `patch` names and leaves the rest (a merge patch; `null` removes).
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn merge(&self, path: &str, patch: &Value) -> Result<Value> {
        self.http.send("PATCH", path, "application/merge-patch+json", Some(patch))?.json()
    }

    /// Server-side apply, with force, as the field manager `world`.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn apply(&self, path: &str, object: &Value) -> Result<Value> {
        let path = format!("{path}?fieldManager=world&force=true");
        self.http.send("PATCH", &path, "application/apply-patch+yaml", Some(object))?.json()
    }

    /// Deletes an object, or all of a list.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn delete(&self, path: &str) -> Result<Value> {
        self.http.send("DELETE", path, "application/json", None)?.json()
    }
}
