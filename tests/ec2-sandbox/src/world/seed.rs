//! Worlds to begin with, made in bulk by the admin API: what is seeded has always been there.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::access::{Caller, default_account};
use super::associate::becomes_effective;
use super::association::{Association, ProfileRef};
use super::guest::Carried;
use super::ids::is_instance_id;
use super::instance::{Instance, InstanceState, Launch, Tags};
use super::{ProfileSpec, Scope, World, partition_of};
use crate::error::ApiError;
use crate::time::{History, Millis};

/// Instances to seed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SeedInstances {
    /// The account; the default one if absent.
    #[serde(default = "account")]
    pub account: String,
    /// The Region.
    #[serde(default = "region")]
    pub region: String,
    /// How many, with ids made up; without `ids`.
    pub count: Option<usize>,
    /// Exactly these.
    #[serde(default)]
    pub ids: Vec<String>,
    /// `running` if absent. A state on the way to another goes on from now.
    pub state: Option<String>,
    /// Tags of each.
    #[serde(default)]
    pub tags: Tags,
    /// The profile each carries, by name or ARN.
    pub profile: Option<String>,
    /// Whether EC2 manages them (EKS Auto Mode).
    #[serde(default)]
    pub managed: bool,
}

/// What was seeded; the two lists go side by side.
#[derive(Debug, Clone, Default)]
pub struct SeededInstances {
    /// The ids.
    pub instances: Vec<Arc<str>>,
    /// Their associations.
    pub associations: Vec<Option<Arc<str>>>,
}

/// A profile to seed, with its role.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SeedProfile {
    /// The account; the default one if absent.
    #[serde(default = "account")]
    pub account: String,
    /// Any Region of the partition.
    #[serde(default = "region")]
    pub region: String,
    /// The name.
    pub name: String,
    /// The path.
    #[serde(default = "slash")]
    pub path: String,
    /// Its role, created if it does not exist; like the profile if absent, none if `null` or empty.
    #[serde(default = "same_name")]
    pub role_name: Option<String>,
    /// Whether the role, if created, lets EC2 assume it.
    #[serde(default = "yes")]
    pub trusted: bool,
}

fn account() -> String {
    default_account().to_owned()
}

fn region() -> String {
    "us-east-1".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

fn yes() -> bool {
    true
}

fn same_name() -> Option<String> {
    Some("=".to_owned())
}

impl Scope {
    /// The sandbox itself acting in an account, past all policies.
    pub fn of_account(account: &str, region: &str) -> Self {
        let arn = format!("arn:{}:sandbox::{account}:admin", partition_of(region));
        let caller = Caller { identity: arn.clone(), arn, user_id: "sandbox".to_owned() };
        Self { account: account.to_owned(), region: region.to_owned(), caller }
    }
}

impl World {
    /// Seeds instances.
    ///
    /// # Errors
    /// What is malformed, taken or unknown; nothing is seeded then.
    pub fn seed_instances(&mut self, now: Millis, seed: &SeedInstances) -> Result<SeededInstances, String> {
        let scope = Scope::of_account(&seed.account, &seed.region);
        let state = match &seed.state {
            None => InstanceState::Running,
            Some(name) => InstanceState::named(name).ok_or_else(|| format!("no state is called {name}"))?,
        };
        self.check_seed(&scope, seed)?;
        let profile = match seed.profile.as_deref().map(ProfileSpec::of) {
            Some(spec) if state != InstanceState::Terminated => {
                let profile = self.resolve(now, &scope, &spec).map_err(|error| error.to_string())?;
                let carried = self.carried_with(&scope, &profile);
                Some((profile, carried))
            }
            _ => None,
        };
        let launch = Arc::new(Launch {
            image_id: "ami-0123456789abcdef0".to_owned(),
            instance_type: "t3.nano".to_owned(),
            reservation: String::new(),
            at: now,
            managed: seed.managed,
        });
        let tags = Arc::new(seed.tags.clone());
        let states = self.states_of(now, state);
        let mut seeded = SeededInstances::default();
        for index in 0..seed.count.unwrap_or(seed.ids.len()) {
            let id = seed.ids.get(index).map_or_else(|| self.mint.hex17("i-"), |id| id.as_str().into());
            let rows: Vec<Association> = profile
                .iter()
                .map(|(profile, carried)| self.old_row(&scope, profile, carried, &states))
                .collect();
            seeded.associations.push(rows.first().map(|row| row.id.clone()));
            seeded.instances.push(id.clone());
            let carried = profile.as_ref().map_or(Carried::Nothing, |(_, carried)| carried.clone());
            let serial = self.ec2(&scope).serial();
            self.ec2(&scope).insert(Instance {
                id,
                serial,
                launch: launch.clone(),
                states: states.clone(),
                tags: History::starting(0, tags.clone()),
                rows,
                guest: History::starting(0, carried),
            });
        }
        Ok(seeded)
    }

    fn check_seed(&mut self, scope: &Scope, seed: &SeedInstances) -> Result<(), String> {
        if seed.ids.is_empty() == seed.count.is_none() {
            return Err("either count or ids".to_owned());
        }
        let mut seen = HashSet::new();
        for id in &seed.ids {
            if !is_instance_id(id) {
                return Err(format!("{id} is not the id of an instance"));
            }
            if !seen.insert(id) || self.ec2(scope).get(id).is_some() {
                return Err(format!("{id} exists"));
            }
        }
        Ok(())
    }

    /// A row that has always been there, and is gone when its instance is terminated.
    fn old_row(
        &mut self,
        scope: &Scope,
        profile: &Arc<ProfileRef>,
        carried: &Carried,
        states: &History<InstanceState>,
    ) -> Association {
        let id = self.mint.hex17("iip-assoc-");
        let mut row = Association::new(id, self.ec2(scope).serial(), profile.clone(), 0);
        row.associated = becomes_effective(carried).then_some(0);
        row.gone = states.last().filter(|(_, state)| *state == InstanceState::Terminated).map(|(at, _)| *at);
        row
    }

    fn states_of(&self, now: Millis, state: InstanceState) -> History<InstanceState> {
        let settings = &self.settings;
        let (before, next) = match state {
            InstanceState::Running | InstanceState::Stopped => return History::starting(0, state),
            InstanceState::Terminated => (InstanceState::Running, None),
            InstanceState::Pending => {
                (InstanceState::Stopped, Some((settings.pending_ms, InstanceState::Running)))
            }
            InstanceState::Stopping => {
                (InstanceState::Running, Some((settings.stopping_ms, InstanceState::Stopped)))
            }
            InstanceState::ShuttingDown => {
                (InstanceState::Running, Some((settings.shutting_down_ms, InstanceState::Terminated)))
            }
        };
        let mut states = History::starting(0, before);
        states.set(now, state);
        if let Some((after, next)) = next {
            states.plan(now.saturating_add(after), next);
        }
        states
    }

    /// Seeds a profile and its role; EC2 knows it at once.
    ///
    /// # Errors
    /// As IAM gives them.
    pub fn seed_profile(&mut self, now: Millis, seed: &SeedProfile) -> Result<super::ProfileView, ApiError> {
        let scope = Scope::of_account(&seed.account, &seed.region);
        self.create_profile(now, &scope, &seed.name, &seed.path)?;
        if let Some(profile) = self.iam(&scope).profile_mut(&seed.name) {
            profile.known_to_ec2 = 0;
        }
        let role = match seed.role_name.as_deref() {
            Some("=") => seed.name.get(..seed.name.len().min(64)).unwrap_or_default(),
            other => other.unwrap_or_default(),
        };
        if !role.is_empty() {
            if self.iam(&scope).role(role).is_none() {
                let service = if seed.trusted { "ec2.amazonaws.com" } else { "lambda.amazonaws.com" };
                let trust = json!({"Version": "2012-10-17", "Statement": [{
                    "Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}]});
                self.create_role(now, &scope, role, &seed.path, &trust.to_string())?;
            }
            self.add_role(&scope, &seed.name, role)?;
        }
        self.get_profile(&scope, &seed.name)
    }
}
