//! The controller's own credentials, wherever the SDK finds them.
//!
//! The SDK reads profile files once and takes credentials without an expiry for everlasting. A file of keys that somebody
//! rotates would be refused until the next start.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use tokio::sync::Mutex;

/// How long credentials are believed that do not say themselves when they expire.
const BELIEVED: Duration = Duration::from_secs(30);

/// The SDK's default chain, begun anew wherever it would not look again by itself.
#[derive(Debug, Clone)]
pub struct Ambient {
    config: SdkConfig,
    /// What gave credentials that expire: it looks again by itself, and bridges outages of its source.
    kept: Arc<Mutex<Option<DefaultCredentialsChain>>>,
}

impl Ambient {
    /// The chain with the Region, time-outs, retries and HTTP client of `config`.
    pub fn new(config: &SdkConfig) -> Self {
        Self { config: config.clone(), kept: Arc::default() }
    }

    async fn look(&self) -> provider::Result {
        let mut kept = self.kept.lock().await;
        let chain = match kept.take() {
            Some(chain) => chain,
            None => self.begin().await,
        };
        let mut found = chain.provide_credentials().await?;
        match found.expiry() {
            Some(_) => *kept = Some(chain),
            None => *found.expiry_mut() = Some(SystemTime::now() + BELIEVED),
        }
        Ok(found)
    }

    async fn begin(&self) -> DefaultCredentialsChain {
        // Made anew, since it keeps what it has read of files. Time-outs and retries are ours, as for every other call.
        let mut settings = ProviderConfig::default()
            .with_use_fips(self.config.use_fips())
            .with_use_dual_stack(self.config.use_dual_stack());
        if let Some(timeouts) = self.config.timeout_config() {
            settings = settings.with_timeout_config(timeouts.clone());
        }
        if let Some(retries) = self.config.retry_config() {
            settings = settings.with_retry_config(retries.clone());
        }
        if let Some(client) = self.config.http_client() {
            settings = settings.with_http_client(client);
        }
        DefaultCredentialsChain::builder()
            .configure(settings)
            .region(self.config.region().cloned())
            .build()
            .await
    }
}

impl ProvideCredentials for Ambient {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.look())
    }
}
