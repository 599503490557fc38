//! The keys of one control plane: an authority, the API server's certificate, the key that signs tokens.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rcgen::{CertifiedIssuer, ExtendedKeyUsagePurpose};

/// Files in PEM.
#[derive(Debug)]
pub(super) struct Certificates {
    /// Who trusts this trusts the API server.
    pub(super) authority: PathBuf,
    pub(super) server: PathBuf,
    pub(super) server_key: PathBuf,
    /// Signs the tokens of service accounts.
    pub(super) token_key: PathBuf,
    /// Checks them.
    pub(super) token_public_key: PathBuf,
}

impl Certificates {
    /// Makes them and writes them into `dir`.
    pub(super) fn write(dir: &Path) -> Result<Self> {
        let authority = authority().context("cannot make a certificate authority")?;
        let server_key = KeyPair::generate()?;
        let server = server_params()?.signed_by(&server_key, &authority)?;
        let token_key = KeyPair::generate()?;
        let put = |name: &str, pem: String| -> Result<PathBuf> {
            let file = dir.join(name);
            std::fs::write(&file, pem)?;
            Ok(file)
        };
        Ok(Self {
            authority: put("ca.crt", authority.pem())?,
            server: put("server.crt", server.pem())?,
            server_key: put("server.key", server_key.serialize_pem())?,
            token_key: put("tokens.key", token_key.serialize_pem())?,
            token_public_key: put("tokens.pub", token_key.public_key_pem())?,
        })
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "world-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn server_params() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}
