//! The credentials of a role that a grant names.
//!
//! The SDK's own provider for it cannot set a source identity.

use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_sts::operation::assume_role::builders::AssumeRoleFluentBuilder;

use crate::decide::AssumedRole;

/// The session name: CloudTrail shows it.
const SESSION: &str = "instance-role-controller";

/// Assumes a role each time that credentials are asked for; the SDK keeps them until they are about to expire.
#[derive(Debug)]
pub struct Assuming(AssumeRoleFluentBuilder);

impl Assuming {
    /// Assumes `role` with the credentials of `config`.
    pub fn new(config: &SdkConfig, role: &AssumedRole) -> Self {
        let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
        let call = aws_sdk_sts::Client::new(config).assume_role();
        Self(
            call.role_arn(role.arn.as_str())
                .role_session_name(SESSION)
                .set_external_id(text(&role.external_id))
                .set_source_identity(text(&role.source_identity)),
        )
    }

    async fn assume(&self) -> provider::Result {
        let reply = self.0.clone().send().await.map_err(CredentialsError::provider_error)?;
        let given =
            reply.credentials().ok_or_else(|| CredentialsError::unhandled("STS gave no credentials"))?;
        let expires = SystemTime::try_from(*given.expiration()).map_err(CredentialsError::unhandled)?;
        let token = Some(given.session_token().to_owned());
        Ok(Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            token,
            Some(expires),
            "AssumeRole",
        ))
    }
}

impl ProvideCredentials for Assuming {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}
