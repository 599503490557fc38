//! Making worlds: instances, profiles and roles in bulk, without tokens, policies or delays.

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::parse;
use crate::server::Server;
use crate::world::{
    Forced, InstanceState, Scope, SeedInstances, SeedProfile, Tags, default_account, is_account,
};

/// One seed or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Value>),
    One(Value),
}

impl OneOrMany {
    fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, String> {
        let values = match parse(body)? {
            Self::Many(values) => values,
            Self::One(value) => vec![value],
        };
        values.into_iter().map(|value| serde_json::from_value(value).map_err(|e| e.to_string())).collect()
    }
}

pub fn instances(server: &Server, body: &[u8]) -> Result<Value, String> {
    let (mut ids, mut associations) = (Vec::new(), Vec::new());
    for seed in OneOrMany::parse::<SeedInstances>(body)? {
        check_account(&seed.account)?;
        let seeded = server.lock().world.seed_instances(server.clock.now(), &seed)?;
        ids.extend(seeded.instances);
        associations.extend(seeded.associations);
    }
    Ok(json!({"instanceIds": ids, "associationIds": associations}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Change {
    #[serde(default = "account")]
    account: String,
    #[serde(default = "region")]
    region: String,
    instance_ids: Vec<String>,
    #[serde(default, deserialize_with = "given")]
    profile: Option<Option<String>>,
    tags: Option<Tags>,
    state: Option<String>,
}

/// Tells `null` from absent.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(value).map(Some)
}

fn account() -> String {
    default_account().to_owned()
}

fn region() -> String {
    "us-east-1".to_owned()
}

pub fn change_instances(server: &Server, body: &[u8]) -> Result<Value, String> {
    let change: Change = parse(body)?;
    let state = match &change.state {
        Some(name) => Some(InstanceState::named(name).ok_or_else(|| format!("no state is called {name}"))?),
        None => None,
    };
    let forced = Forced { profile: change.profile, tags: change.tags, state };
    let mut shared = server.lock();
    for id in &change.instance_ids {
        shared.world.force(server.clock.now(), &change.account, &change.region, id, &forced)?;
    }
    Ok(json!({"changed": change.instance_ids.len()}))
}

pub fn profiles(server: &Server, body: &[u8]) -> Result<Value, String> {
    let mut made = Vec::new();
    for seed in OneOrMany::parse::<SeedProfile>(body)? {
        check_account(&seed.account)?;
        let profile = server.lock().world.seed_profile(server.clock.now(), &seed);
        let profile = profile.map_err(|error| error.to_string())?;
        let role = profile.role.map(|role| role.arn);
        made.push(json!({"name": profile.name, "arn": profile.arn, "id": profile.id, "roleArn": role}));
    }
    Ok(json!({"profiles": made}))
}

/// A role that identities may assume; its trust is given whole, or by accounts and external id.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Role {
    #[serde(default = "account")]
    account: String,
    #[serde(default = "region")]
    region: String,
    name: String,
    #[serde(default = "slash")]
    path: String,
    trust: Option<Value>,
    #[serde(default)]
    trusted_accounts: Vec<String>,
    external_id: Option<String>,
}

fn slash() -> String {
    "/".to_owned()
}

pub fn roles(server: &Server, body: &[u8]) -> Result<Value, String> {
    let mut made = Vec::new();
    for role in OneOrMany::parse::<Role>(body)? {
        check_account(&role.account)?;
        let scope = Scope::of_account(&role.account, &role.region);
        let trust = role.trust_policy(&scope).to_string();
        let mut shared = server.lock();
        let now = server.clock.now();
        let view = if shared.world.get_role(&scope, &role.name).is_ok() {
            shared
                .world
                .update_trust(now, &scope, &role.name, &trust)
                .and_then(|()| shared.world.get_role(&scope, &role.name))
        } else {
            shared.world.create_role(now, &scope, &role.name, &role.path, &trust)
        };
        let view = view.map_err(|error| error.to_string())?;
        made.push(json!({"arn": view.arn, "id": view.id}));
    }
    Ok(json!({"roles": made}))
}

impl Role {
    fn trust_policy(&self, scope: &Scope) -> Value {
        if let Some(trust) = &self.trust {
            return trust.clone();
        }
        let own = [self.account.clone()];
        let accounts = if self.trusted_accounts.is_empty() { &own[..] } else { &self.trusted_accounts };
        let principals: Vec<String> =
            accounts.iter().map(|account| format!("arn:{}:iam::{account}:root", scope.partition())).collect();
        let mut statement =
            json!({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": principals}});
        if let Some(external_id) = &self.external_id {
            statement["Condition"] = json!({"StringEquals": {"sts:ExternalId": external_id}});
        }
        json!({"Version": "2012-10-17", "Statement": [statement]})
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Stick {
    association_id: String,
    state: String,
}

pub fn stick(server: &Server, body: &[u8]) -> Result<Value, String> {
    let stick: Stick = parse(body)?;
    server.lock().world.stick(server.clock.now(), &stick.association_id, &stick.state)?;
    Ok(json!({"stuck": stick.association_id}))
}

fn check_account(account: &str) -> Result<(), String> {
    if is_account(account) { Ok(()) } else { Err(format!("an account is 12 digits, not {account}")) }
}
