//! Making the world misbehave: settings, faults, policies, credentials, time.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Query, only, parse};
use crate::fault::Fault;
use crate::server::Server;
use crate::world::World;

pub fn settings(server: &Server) -> Result<Value, String> {
    serde_json::to_value(&server.lock().world.settings).map_err(|error| error.to_string())
}

pub fn change_settings(server: &Server, body: &[u8]) -> Result<Value, String> {
    let patch: Value = parse(body)?;
    let mut shared = server.lock();
    shared.world.settings = shared.world.settings.patched(&patch)?;
    serde_json::to_value(&shared.world.settings).map_err(|error| error.to_string())
}

pub fn faults(server: &Server) -> Result<Value, String> {
    Ok(json!({"faults": server.lock().faults.list()}))
}

pub fn add_fault(server: &Server, body: &[u8]) -> Result<Value, String> {
    let fault: Fault = parse(body)?;
    let id = server.lock().faults.add(fault)?;
    Ok(json!({"id": id}))
}

pub fn remove_faults(server: &Server, query: &Query) -> Result<Value, String> {
    only(query, &["id"])?;
    let id = query.get("id").map(|id| id.parse()).transpose().map_err(|error| format!("id: {error}"))?;
    let mut shared = server.lock();
    shared.faults.remove(id);
    Ok(json!({"faults": shared.faults.list()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Attach {
    /// ARN of a user, a role, or an account's root.
    identity: Option<String>,
    /// Instead of the ARN: an access key.
    access_key: Option<String>,
    #[serde(default = "region")]
    region: String,
    policy: Value,
}

fn region() -> String {
    "us-east-1".to_owned()
}

pub fn attach_policy(server: &Server, body: &[u8]) -> Result<Value, String> {
    let attach: Attach = parse(body)?;
    let mut shared = server.lock();
    let identity = match (attach.identity, attach.access_key) {
        (Some(identity), None) if identity.starts_with("arn:") => identity,
        (None, Some(key)) => shared.world.identity_of(&key, &attach.region),
        _ => return Err("either identity, an ARN, or accessKey".to_owned()),
    };
    shared.world.attach_policy(&identity, &attach.policy)?;
    Ok(json!({"identity": identity}))
}

pub fn detach_policies(server: &Server, query: &Query) -> Result<Value, String> {
    only(query, &["identity"])?;
    server.lock().world.detach_policies(query.get("identity").map(String::as_str));
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CredentialsChange {
    /// A key, or all sessions of a role.
    access_key: Option<String>,
    role_arn: Option<String>,
    /// `expired`, `inactive` or `active`.
    state: String,
}

pub fn credentials(server: &Server, body: &[u8]) -> Result<Value, String> {
    let change: CredentialsChange = parse(body)?;
    let who = change.access_key.or(change.role_arn).ok_or("either accessKey or roleArn")?;
    let changed = server.lock().world.set_credentials(server.clock.now(), &who, &change.state)?;
    Ok(json!({"changed": changed}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Advance {
    advance_ms: u64,
}

pub fn clock(server: &Server, body: &[u8]) -> Result<Value, String> {
    let advance: Advance = parse(body)?;
    server.clock.advance(advance.advance_ms);
    Ok(json!({"nowMs": server.clock.now()}))
}

pub fn fill_buckets(server: &Server) -> Result<Value, String> {
    server.lock().throttle.reset();
    Ok(json!({}))
}

pub fn reset(server: &Server) -> Result<Value, String> {
    let mut shared = server.lock();
    let settings = shared.world.settings.clone();
    shared.world = World::new(settings);
    shared.throttle.reset();
    shared.faults.remove(None);
    shared.journal.clear();
    Ok(json!({"last": shared.journal.last()}))
}
