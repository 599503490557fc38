//! Who we are at AWS, and the clients for each Region.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use tokio::sync::mpsc;

use super::budget::Limit;
use super::catalogue::Catalogue;
use super::client::{Ec2, measured};
use super::error::{Error, Meaning};
use super::fleet::Fleet;
use crate::decide::Place;
use crate::ids::{AccountId, InstanceId, Region};
use crate::telemetry::Metrics;

/// How long a call may take in all. A write must be over within the time by which a Lease outlives its renewal.
const CALL: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(3);

/// What the environment says about AWS, before anybody was asked.
#[derive(Debug, Clone)]
pub struct Environment {
    config: SdkConfig,
    /// The controller's own Region.
    pub region: Region,
}

/// Why the environment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// No Region is set anywhere.
    #[error("no AWS Region: set AWS_REGION to the Region of your instances, such as eu-west-1")]
    NoRegion,
    /// The Region is malformed.
    #[error("AWS_REGION: {0}")]
    Region(#[from] crate::ids::Malformed),
}

impl Environment {
    /// Reads the SDK's own settings: environment, profile files, web identity, Pod Identity, instance metadata.
    pub async fn load() -> Result<Self, EnvironmentError> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT)
            .operation_attempt_timeout(CALL)
            .operation_timeout(CALL)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if let Ok(name) = AppName::new("instance-role-controller") {
            loader = loader.app_name(name);
        }
        let config = loader.load().await;
        let region = Region::parse(config.region().ok_or(EnvironmentError::NoRegion)?.as_ref())?;
        Ok(Self { config, region })
    }

    /// Asks AWS who we are.
    pub async fn identity(&self, metrics: &Metrics) -> Result<AccountId, Error> {
        const OP: &str = "GetCallerIdentity";
        let sdk = aws_sdk_sts::Client::new(&self.config);
        let reply = measured(metrics, OP, sdk.get_caller_identity().send()).await?;
        reply.account().and_then(|id| AccountId::parse(id).ok()).ok_or_else(|| Error::Refused {
            operation: OP,
            meaning: Meaning::Unexpected,
            code: "Malformed".into(),
            message: "AWS named no account".into(),
            request_id: None,
        })
    }
}

/// One account and Region: the calls, the shared view, and the account's profiles.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Where.
    pub place: Place,
    /// What EC2 shows.
    pub fleet: Arc<Fleet>,
    /// IAM's profiles.
    pub catalogue: Arc<Catalogue>,
}

/// AWS as one account sees it: a connection for each Region that is asked for.
#[derive(Debug)]
pub struct Cloud {
    environment: Environment,
    account: AccountId,
    catalogue: Arc<Catalogue>,
    metrics: Arc<Metrics>,
    share: f64,
    changed: mpsc::UnboundedSender<(Place, InstanceId)>,
    connections: Mutex<HashMap<Region, Connection>>,
}

impl Cloud {
    /// AWS with the environment's credentials, in the account they belong to. `share` is the part of EC2's read limits that
    /// may be used; instances whose view changed are sent to `changed`.
    pub fn new(
        environment: Environment,
        account: AccountId,
        share: f64,
        metrics: Arc<Metrics>,
        changed: mpsc::UnboundedSender<(Place, InstanceId)>,
    ) -> Self {
        let catalogue = Arc::new(Catalogue::new(
            aws_sdk_iam::Client::new(&environment.config),
            account.clone(),
            Arc::clone(&metrics),
        ));
        Self { environment, account, catalogue, metrics, share, changed, connections: Mutex::default() }
    }

    /// The account and Region of a binding.
    pub fn place(&self, region: Option<&Region>) -> Place {
        Place { account: self.account.clone(), region: region.unwrap_or(&self.environment.region).clone() }
    }

    /// The connection to a Region, and whether it was made just now, so that its view has yet to be kept.
    pub fn connect(&self, region: &Region) -> (Connection, bool) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connections.get(region) {
            return (connection.clone(), false);
        }
        let config = aws_sdk_ec2::config::Builder::from(&self.environment.config)
            .region(aws_sdk_ec2::config::Region::new(region.to_string()))
            .build();
        let sdk = aws_sdk_ec2::Client::from_conf(config);
        let place = Place { account: self.account.clone(), region: region.clone() };
        let ec2 = Ec2::new(sdk, Arc::clone(&self.metrics), Limit::DESCRIBE.share(self.share));
        let (changed, mut inbox) = mpsc::unbounded_channel();
        let (out, at) = (self.changed.clone(), place.clone());
        tokio::spawn(async move {
            while let Some(id) = inbox.recv().await {
                if out.send((at.clone(), id)).is_err() {
                    return;
                }
            }
        });
        let fleet = Arc::new(Fleet::new(ec2, changed));
        let connection = Connection { place, fleet, catalogue: Arc::clone(&self.catalogue) };
        connections.insert(region.clone(), connection.clone());
        (connection, true)
    }

    /// The connection to a Region, if there is one.
    pub fn connected(&self, region: &Region) -> Option<Connection> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).get(region).cloned()
    }
}
