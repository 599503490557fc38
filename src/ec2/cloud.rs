//! Who we are at AWS, and the clients for each Region.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use aws_sdk_ec2::config::SharedCredentialsProvider;
use tokio::sync::mpsc;

use super::ambient::Ambient;
use super::assume::Assuming;
use super::budget::Limit;
use super::catalogue::Catalogue;
use super::client::{Caller, Ec2, Reads};
use super::error::{Error, Meaning};
use super::fleet::Fleet;
use super::gate::Gate;
use crate::decide::{AssumedRole, Credentials, Declared, Place, Resolution};
use crate::ids::{AccountId, InstanceId, Region};
use crate::lease::Fence;
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
        let own = SharedCredentialsProvider::new(Ambient::new(&config));
        Ok(Self { config: config.to_builder().credentials_provider(own).build(), region })
    }

    /// Asks AWS who we are.
    pub async fn identity(&self, metrics: Arc<Metrics>) -> Result<Identity, Error> {
        const OP: &str = "GetCallerIdentity";
        let sdk = aws_sdk_sts::Client::new(&self.config);
        let reply = Caller { metrics, role: None }.call(OP, sdk.get_caller_identity().send()).await?;
        let account = reply.account().and_then(|id| AccountId::parse(id).ok());
        let account = account.ok_or_else(|| Error::Refused {
            operation: OP,
            meaning: Meaning::Unexpected,
            code: "Malformed".into(),
            message: "AWS named no account".into(),
            request_id: None,
        })?;
        let partition = reply.arn().and_then(|arn| arn.split(':').nth(1)).unwrap_or("aws").to_owned();
        Ok(Identity { account, partition, instance: reply.arn().and_then(instance_of_session) })
    }

    /// The same environment, acting as another role.
    fn acting_as(&self, role: &AssumedRole) -> SdkConfig {
        let provider = SharedCredentialsProvider::new(Assuming::new(&self.config, role));
        self.config.to_builder().credentials_provider(provider).build()
    }
}

/// Who we are at AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The account of the controller's own credentials.
    pub account: AccountId,
    /// The partition that it belongs to, such as `aws` or `aws-cn`.
    pub partition: String,
    /// The instance whose metadata gave the credentials: EC2 names the session after it.
    pub instance: Option<InstanceId>,
}

/// The instance in `arn:aws:sts::123456789012:assumed-role/name/i-0123456789abcdef0`.
fn instance_of_session(arn: &str) -> Option<InstanceId> {
    InstanceId::parse(arn.rsplit('/').next()?).ok()
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

/// One set of credentials, and what belongs to the account it acts in.
#[derive(Debug, Clone)]
struct Account {
    id: AccountId,
    config: SdkConfig,
    caller: Caller,
    catalogue: Arc<Catalogue>,
}

/// AWS as the roles see it that grants name: a connection for each role and Region that is asked for.
#[derive(Debug)]
pub struct Cloud {
    environment: Environment,
    own: AccountId,
    metrics: Arc<Metrics>,
    share: f64,
    changed: mpsc::UnboundedSender<(Place, InstanceId)>,
    /// How long a write may take.
    write_limit: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Before each write; none: nobody leads yet, and nothing is connected to.
    fence: Option<Fence>,
    accounts: HashMap<Credentials, Account>,
    connections: HashMap<(Credentials, Region), Connection>,
    /// EC2 counts reads per account and Region, so roles of one account share them.
    reads: HashMap<Place, Arc<Reads>>,
}

impl Cloud {
    /// AWS with the environment's credentials, which belong to the account `own`. `share` is the part of EC2's read limits that
    /// may be used, `write_limit` how long a write may take at most; instances whose view changed are sent to `changed`.
    pub fn new(
        environment: Environment,
        own: AccountId,
        share: f64,
        write_limit: Option<Duration>,
        metrics: Arc<Metrics>,
        changed: mpsc::UnboundedSender<(Place, InstanceId)>,
    ) -> Self {
        let write_limit = write_limit.map_or(CALL, |limit| limit.min(CALL));
        Self { environment, own, metrics, share, changed, write_limit, known: Mutex::default() }
    }

    /// Forgets all that was seen: from now on looks are new, and writes need this fence open. Who still holds a connection
    /// from before writes nothing by it.
    pub fn start_over(&self, fence: &Fence) {
        let mut known = self.known();
        // EC2's budgets are what was not forgotten there.
        let reads = std::mem::take(&mut known.reads);
        *known = Known { fence: Some(fence.clone()), reads, ..Known::default() };
    }

    /// The account that these credentials act in.
    pub fn account<'a>(&'a self, credentials: &'a Credentials) -> &'a str {
        credentials.as_ref().map_or(self.own.as_str(), |role| role.arn.account())
    }

    /// The connection to a Region, and whether it was made just now, so that its view has yet to be kept. It calls
    /// nobody: a role that cannot be assumed shows at the first look.
    pub async fn connect(&self, credentials: &Credentials, region: &Region) -> (Connection, bool) {
        loop {
            if let Some(connection) = self.connected(credentials, region) {
                return (connection, false);
            }
            let fence = self.known().fence.clone().unwrap_or_else(Fence::closed);
            if let Some(made) = self.make(credentials, region, fence).await {
                return made;
            }
        }
    }

    /// Makes the connection; none: another time of leading has begun meanwhile.
    async fn make(
        &self,
        credentials: &Credentials,
        region: &Region,
        fence: Fence,
    ) -> Option<(Connection, bool)> {
        let account = self.enter(credentials).await;
        let place = Place { account: account.id.clone(), region: region.clone() };
        let config = aws_sdk_ec2::config::Builder::from(&account.config)
            .region(aws_sdk_ec2::config::Region::new(region.to_string()));
        let key = (credentials.clone(), region.clone());
        let mut known = self.known();
        if known.fence.as_ref().is_some_and(|now| !now.is_same(&fence)) {
            return None;
        }
        if let Some(connection) = known.connections.get(&key) {
            return Some((connection.clone(), false));
        }
        let limit = Limit::DESCRIBE.share(self.share);
        let reads = known.reads.entry(place.clone()).or_insert_with(|| Arc::new(Reads::new(limit)));
        let ec2 =
            Ec2::new(config, account.caller, Arc::clone(reads), Gate { fence, limit: self.write_limit });
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
        let connection = Connection { place, fleet, catalogue: account.catalogue };
        known.connections.insert(key, connection.clone());
        Some((connection, true))
    }

    /// The clients that do not depend on the Region.
    async fn enter(&self, credentials: &Credentials) -> Account {
        if let Some(account) = self.known().accounts.get(credentials) {
            return account.clone();
        }
        let (id, config, role) = match credentials {
            None => (self.own.clone(), self.environment.config.clone(), None),
            Some(role) => {
                let id = AccountId::parse(role.arn.account()).unwrap_or_else(|_| self.own.clone());
                (id, self.environment.acting_as(role), Some(role.arn.clone()))
            }
        };
        let caller = Caller { metrics: Arc::clone(&self.metrics), role };
        let iam = aws_sdk_iam::config::Builder::from(&config);
        let catalogue = Arc::new(Catalogue::new(iam, id.clone(), caller.clone()));
        let account = Account { id, config, caller, catalogue };
        self.known().accounts.entry(credentials.clone()).or_insert(account).clone()
    }

    /// What is known of a declared profile in the account of these credentials, without asking IAM.
    pub fn resolve(&self, credentials: &Credentials, declared: &Declared) -> Resolution {
        let catalogue = self.known().accounts.get(credentials).map(|account| Arc::clone(&account.catalogue));
        catalogue.map_or(Resolution::NotAsked, |catalogue| catalogue.resolve(declared))
    }

    /// Another number whenever something was learned of the profiles of that account.
    pub fn learned(&self, credentials: &Credentials) -> u64 {
        self.known().accounts.get(credentials).map_or(0, |account| account.catalogue.version())
    }

    /// The connection, if there is one.
    pub fn connected(&self, credentials: &Credentials, region: &Region) -> Option<Connection> {
        self.known().connections.get(&(credentials.clone(), region.clone())).cloned()
    }

    /// Another number after each listing.
    pub fn listings(&self) -> u64 {
        self.known().connections.values().map(|connection| connection.fleet.listings()).sum()
    }

    /// All connections to a Region, with the credentials that they use.
    pub fn connected_to(&self, region: &Region) -> Vec<(Credentials, Connection)> {
        let known = self.known();
        let there = known.connections.iter().filter(|((_, other), _)| other == region);
        there.map(|((credentials, _), connection)| (credentials.clone(), connection.clone())).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_name_tells_the_instance_whose_metadata_gave_the_credentials() {
        for (arn, instance) in [
            ("arn:aws:sts::123456789012:assumed-role/node/i-0123456789abcdef0", Some("i-0123456789abcdef0")),
            ("arn:aws:sts::123456789012:assumed-role/controller/botocore-session-1", None),
            ("arn:aws:iam::123456789012:user/i-am-a-user", None),
        ] {
            assert_eq!(instance_of_session(arn).as_ref().map(InstanceId::as_str), instance);
        }
    }
}
