//! What the grants let a binding do, as far as that can be told before AWS is asked anything; and whom to act as.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;

use super::bindings::Spot;
use super::gather;
use super::ground::Ground;
use crate::api::InstanceRoleBinding;
use crate::decide::{Carried, Credentials, Declared, Desired, Grant, Lack, ProfileRef, Resolution, Rights};

/// The rights of a binding, and the credentials that all its grants name.
#[derive(Debug, Clone)]
pub struct Entitled {
    /// What it may do.
    pub rights: Rights,
    /// Whom to act as.
    pub credentials: Credentials,
}

/// The rights of a binding as grants, namespaces and the other bindings are now.
///
/// # Errors
/// No grant could cover it, and why.
pub fn entitle(
    ctx: &Ground,
    binding: &InstanceRoleBinding,
    desired: &Desired,
    spot: &Spot,
    rooms: Recount,
) -> Result<Entitled, Lack> {
    let namespace = binding.namespace().unwrap_or_default();
    let covering = ctx.grants.covering(&namespace);
    if covering.is_empty() {
        return Err(Lack::Namespace);
    }
    let mut noted = if binding.metadata.deletion_timestamp.is_some() { noted(binding) } else { Vec::new() };
    noted.extend(binding.status.iter().flat_map(gather::swapping));
    let meant = |grant: &&Arc<Grant>| {
        grant.could_cover(&desired.declared) || noted.iter().any(|profile| grant.covers_profile(profile))
    };
    let meant: Vec<&Arc<Grant>> = covering.iter().filter(meant).collect();
    if meant.is_empty() {
        return Err(Lack::Profile);
    }
    let there =
        |grant: &&Arc<Grant>| grant.covers_spot(&spot.region, ctx.bindings.own_region(), &spot.instance);
    let there: Vec<&Arc<Grant>> = meant.into_iter().filter(there).collect();
    let Some(first) = there.first() else { return Err(Lack::Instance) };
    let full = Lack::Room(Arc::clone(&first.name), first.max_bindings.unwrap_or_default());
    let rights = Rights {
        grants: there
            .into_iter()
            .filter(|grant| ctx.rooms.has_room(ctx, grant, binding, rooms))
            .cloned()
            .collect(),
        required: ctx.settings.required_tag.clone(),
        own: ctx.own_instance.as_ref() == Some(&spot.instance),
    };
    if rights.grants.is_empty() {
        return Err(full);
    }
    let (credentials, rights) = rights.agreed(&desired.declared).map_err(Lack::Credentials)?;
    Ok(Entitled { rights, credentials })
}

/// The profiles that a deletion may be about: what was wanted, asked for and found. Notes give no right; they only
/// say which grants to look at.
fn noted(binding: &InstanceRoleBinding) -> Vec<ProfileRef> {
    let Some(status) = &binding.status else { return Vec::new() };
    let kept = [&status.desired, &status.previous].into_iter().flatten();
    let kept = kept.filter_map(|noted| noted.profile_arn.as_deref().and_then(ProfileRef::parse));
    let changed = status.changes.iter().filter_map(|change| Carried::parse(&change.to));
    kept.chain(changed.filter_map(|carried| carried.profile().cloned())).collect()
}

/// A binding's place in the order of age.
type Age = (Timestamp, String);

fn age(binding: &InstanceRoleBinding) -> Age {
    let created = binding.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |at| at.0);
    (created, binding.uid().unwrap_or_default())
}

/// `maxBindings`: a grant covers the oldest bindings of each namespace, so that a tenant cannot use up another's and
/// a new one never displaces an old one.
#[derive(Debug, Default)]
pub struct Rooms {
    found: Mutex<HashMap<Whose, Room>>,
    /// The youngest that had room when those were last woken whom it concerns.
    told: Mutex<HashMap<Whose, Option<Age>>>,
}

/// A grant's name and a namespace.
type Whose = (Arc<str>, String);

/// Who has room.
#[derive(Debug, Clone)]
struct Room {
    /// Of all that it was found from: while they are the same, so is the room.
    versions: (u64, u64, u64),
    found: Instant,
    /// The youngest binding that has room; none: all have.
    youngest: Option<Age>,
}

/// When those are counted again who share a grant's room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recount {
    /// At most once a second: enough to tell by, and a tenant who makes bindings in a loop costs little.
    Sparing,
    /// Whenever anything has changed: to write by.
    Always,
}

const SPARING: Duration = Duration::from_secs(1);

impl Rooms {
    /// What was found from what is forgotten now is to be found anew.
    pub fn start_over(&self) {
        lock(&self.found).clear();
    }

    /// Whether fewer than `maxBindings` of the namespace's bindings that the grant covers are older.
    fn has_room(&self, ctx: &Ground, grant: &Grant, binding: &InstanceRoleBinding, recount: Recount) -> bool {
        let Some(most) = grant.max_bindings else { return true };
        let namespace = binding.namespace().unwrap_or_default();
        let (count, version) = ctx.bindings.in_namespace(&namespace);
        if count <= most {
            return true;
        }
        let versions = (ctx.grants.version(), version, ctx.cloud.learned(&grant.credentials));
        let key = (Arc::clone(&grant.name), namespace);
        let recent = |room: &&Room| recount == Recount::Sparing && room.found.elapsed() < SPARING;
        let cached =
            lock(&self.found).get(&key).filter(|room| room.versions == versions || recent(room)).cloned();
        let room = cached.unwrap_or_else(|| {
            let room = Room { versions, found: Instant::now(), youngest: youngest(ctx, grant, &key.1, most) };
            lock(&self.found).insert(key, room.clone());
            room
        });
        room.youngest.is_none_or(|youngest| age(binding) <= youngest)
    }

    /// Whether others than before have room in a namespace, so that all there are to be judged anew.
    pub fn shifted(&self, ctx: &Ground, namespace: &str) -> bool {
        let covering = ctx.grants.covering(namespace);
        let limited = covering.iter().filter_map(|grant| Some((grant, grant.max_bindings?)));
        let mut shifted = false;
        for (grant, most) in limited {
            let now = youngest(ctx, grant, namespace, most);
            let whose = (Arc::clone(&grant.name), namespace.to_owned());
            let before = lock(&self.told).insert(whose, now.clone());
            shifted |= before.flatten() != now;
        }
        shifted
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The youngest of the `most` oldest that a grant covers, if there are so many.
fn youngest(ctx: &Ground, grant: &Grant, namespace: &str, most: usize) -> Option<Age> {
    let covered = ctx.bindings.of_namespace(namespace).filter(|binding| covers(ctx, grant, binding));
    let mut ages: Vec<Age> = covered.map(|binding| age(&binding)).collect();
    ages.sort();
    ages.get(most.checked_sub(1)?).cloned()
}

/// Whether a grant covers a binding, tags aside, as far as IAM has told which profile it means.
fn covers(ctx: &Ground, grant: &Grant, binding: &InstanceRoleBinding) -> bool {
    if binding.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let (Ok(desired), Some(spot)) = (gather::desired(binding, &ctx.settings), ctx.bindings.spot(binding))
    else {
        return false;
    };
    if !grant.could_cover(&desired.declared)
        || !grant.covers_spot(&spot.region, ctx.bindings.own_region(), &spot.instance)
    {
        return false;
    }
    let of = |arn: &crate::ids::ProfileArn| grant.covers_profile(&ProfileRef::Arn(arn.clone()));
    match (&desired.declared, ctx.cloud.resolve(&grant.credentials, &desired.declared)) {
        (Declared::Arn(_) | Declared::NoProfile, _) => true,
        (_, Resolution::Found(target)) => grant.covers_profile(&target.profile),
        (_, Resolution::Missing { really: Some(arn), .. }) => of(&arn),
        (_, Resolution::Ambiguous(arns)) => arns.iter().any(of),
        (_, Resolution::Missing { really: None, .. } | Resolution::NoProfile | Resolution::NotAsked)
        | (_, Resolution::Denied(_) | Resolution::Unavailable(_)) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding(status: serde_json::Value) -> InstanceRoleBinding {
        serde_json::from_value(json!({
            "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
            "metadata": {"name": "web", "namespace": "team-a", "uid": "b", "creationTimestamp": "2026-11-23T12:00:00Z"},
            "spec": {"instanceId": "i-0123456789abcdef0", "instanceProfile": {"name": "App"}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_deletion_may_be_about_what_was_wanted_found_and_asked_for() {
        let change = |from: &str, to: &str| json!({"operation": "ReplaceIamInstanceProfileAssociation", "from": from, "to": to, "at": "2026-11-23T12:00:00Z"});
        let arn = |name: &str| format!("arn:aws:iam::123456789012:instance-profile/{name}");
        let noted = noted(&binding(json!({
            "desired": {"profileArn": arn("Wanted")}, "previous": {"profileArn": "FoundByName"},
            "changes": [change("App", "none"), change(&arn("Taken"), &arn("Asked")), change("none", "not a profile: *")],
        })));
        let names: Vec<&str> = noted.iter().map(ProfileRef::as_str).collect();
        assert_eq!(names, [arn("Wanted").as_str(), "FoundByName", arn("Asked").as_str()]);
        assert!(super::noted(&binding(json!({"previous": {"none": true}}))).is_empty());
        assert!(super::noted(&binding(serde_json::Value::Null)).is_empty());
    }

    #[test]
    fn the_older_binding_comes_first_then_the_smaller_uid_and_one_without_a_birthday_last() {
        let (one, mut twin, mut unborn) = (binding(json!({})), binding(json!({})), binding(json!({})));
        twin.metadata.uid = Some("c".into());
        unborn.metadata.creation_timestamp = None;
        assert!(age(&one) < age(&twin) && age(&twin) < age(&unborn));
    }
}
