//! Looking: the journal, the truth, the life of a guest.

use serde_json::{Value, json};

use super::{Query, only};
use crate::server::Server;
use crate::time::Millis;
use crate::world::{Carried, GuestStep, InstanceState, default_account};

pub fn journal(server: &Server, query: &Query) -> Result<Value, String> {
    only(query, &["since", "limit"])?;
    let number = |name: &str| query.get(name).map(|text| text.parse::<u64>()).transpose();
    let since = number("since").map_err(|error| format!("since: {error}"))?.unwrap_or(0);
    let limit = number("limit").map_err(|error| format!("limit: {error}"))?.unwrap_or(u64::MAX);
    let shared = server.lock();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let entries: Vec<_> = shared.journal.since(since).take(limit).collect();
    Ok(json!({"last": shared.journal.last(), "nowMs": server.clock.now(), "entries": entries}))
}

pub fn clear_journal(server: &Server) -> Result<Value, String> {
    let mut shared = server.lock();
    shared.journal.clear();
    Ok(json!({"last": shared.journal.last()}))
}

pub fn state(server: &Server, query: &Query) -> Result<Value, String> {
    only(query, &["account", "region", "instance"])?;
    let get = |name: &str| query.get(name).map(String::as_str);
    let shared = server.lock();
    let now = server.clock.now();
    let instances = shared.world.truth(now, get("account"), get("region"), get("instance"));
    let mine = |account: &str| get("account").is_none_or(|wanted| wanted == account);
    let profiles: Vec<Value> = shared
        .world
        .all_profiles()
        .into_iter()
        .filter(|(account, _)| mine(account))
        .map(|(account, profile)| {
            let role = profile.role.map(|role| role.arn);
            json!({"account": account, "name": profile.name, "path": profile.path, "arn": profile.arn,
                "id": profile.id, "roleArn": role})
        })
        .collect();
    let roles: Vec<Value> = shared
        .world
        .all_roles()
        .into_iter()
        .filter(|(account, _)| mine(account))
        .map(|(account, role)| json!({"account": account, "name": role.name, "arn": role.arn, "id": role.id}))
        .collect();
    Ok(json!({"nowMs": now, "instances": instances, "profiles": profiles, "roles": roles}))
}

pub fn timeline(server: &Server, query: &Query) -> Result<Value, String> {
    only(query, &["account", "region", "instance"])?;
    let instance = query.get("instance").ok_or("instance is missing")?;
    let shared = server.lock();
    let now = server.clock.now();
    let found = shared.world.truth(now, query.get("account").map(String::as_str), None, Some(instance));
    let found = found.into_iter().find(|one| query.get("region").is_none_or(|region| *region == one.region));
    let found = found.ok_or_else(|| format!("there is no instance {instance} in {}", default_account()))?;
    let steps = shared.world.timeline(&found.account, &found.region, instance, now).unwrap_or_default();
    let shown: Vec<Value> = steps.iter().map(step).collect();
    Ok(json!({"nowMs": now, "instanceId": instance, "steps": shown, "gaps": gaps(&steps)}))
}

fn step(step: &GuestStep) -> Value {
    let (carries, profile, role) = match &step.carried {
        None => ("down", None, None),
        Some(Carried::Nothing) => ("nothing", None, None),
        Some(Carried::Credentials { profile, role }) => ("credentials", Some(&profile.arn), Some(role)),
        Some(Carried::Unauthorized { profile }) => ("unauthorized", Some(&profile.arn), None),
    };
    json!({"fromMs": step.from, "state": step.state.name(), "carries": carries, "profileArn": profile,
        "roleArn": role})
}

/// Stretches in which a running workload that had had credentials had none; still open if there is no end.
fn gaps(steps: &[GuestStep]) -> Vec<Value> {
    let mut gaps: Vec<(Millis, Option<Millis>)> = Vec::new();
    let (mut had, mut open) = (false, None);
    for step in steps {
        let carries = matches!(step.carried, Some(Carried::Credentials { .. }));
        let running = step.state == InstanceState::Running;
        if !running || carries {
            gaps.extend(open.take().map(|from| (from, Some(step.from))));
        } else if had && open.is_none() {
            open = Some(step.from);
        }
        // A restart is a new workload.
        had = running && (had || carries);
    }
    gaps.extend(open.map(|from| (from, None)));
    gaps.into_iter().map(|(from, to)| json!({"fromMs": from, "toMs": to})).collect()
}
