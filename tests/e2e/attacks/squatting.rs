//! Being there first, being many, or refusing to go: none of it takes an instance from those who were given it.

use std::collections::HashSet;

use anyhow::Result;
use serde_json::{Value, json};

use crate::grants::{Rights, allowing, allowing_on, arn, stranger, with};
use crate::stage::{
    ASSOCIATE, DISASSOCIATE, REPLACE, Story, a_second_later, condition, is_held, is_observed, message, truth,
    world,
};

#[test]
fn an_older_binding_of_a_stranger_does_not_keep_an_instance() -> Result<()> {
    let (squatter, tenant) = (stranger("squatter")?, stranger("tenant")?);
    let app = tenant.sandbox().profile("squatted")?;
    let i = tenant.sandbox().instance("running", None)?;
    tenant.grant("own", &allowing_on(&["squatted"], &[&i]))?;
    squatter.bind("claim", &i, &json!({"name": "squatted"}))?;
    squatter.is_refused("claim")?;
    let before = squatter.binding("claim")?["metadata"]["resourceVersion"].clone();
    a_second_later()?;

    tenant.bind("web", &i, &json!({"name": "squatted"}))?;
    tenant.is_carried_out("web")?;
    assert_eq!(tenant.sandbox().profile_of(&i)?, Some(app));
    tenant.passes(2)?;
    assert_eq!(tenant.writes(&i)?, [ASSOCIATE]);
    let after = squatter.is_refused("claim")?;
    assert_eq!(
        after["metadata"]["resourceVersion"], before,
        "the squatter cannot tell that anything happened"
    );
    Ok(())
}

#[test]
fn a_foreign_finalizer_does_not_keep_a_deleted_winner_in_the_way() -> Result<()> {
    let (first, next) = (stranger("clings")?, stranger("comes-next")?);
    for name in ["clings-old", "clings-new"] {
        first.sandbox().profile(name)?;
    }
    let i = first.sandbox().instance("running", None)?;
    first.grant("own", &allowing_on(&["clings-old"], &[&i]))?;
    next.grant("own", &allowing_on(&["clings-new"], &[&i]))?;
    first.bind("web", &i, &json!({"name": "clings-old"}))?;
    first.is_carried_out("web")?;
    let finalizers =
        json!({"metadata": {"finalizers": ["instancerole.dev/association", "example.com/for-ever"]}});
    let api = first.world().control_plane().api();
    api.merge(&first.path("web"), &finalizers)?;
    a_second_later()?;
    next.bind("web", &i, &json!({"name": "clings-new"}))?;
    next.reaches("web", "Conflict")?;

    first.delete("web")?;
    next.is_carried_out("web")?;
    assert_eq!(next.sandbox().profile_of(&i)?, Some(arn("clings-new")));
    let left = first.patiently("web", "is held by the foreign finalizer alone", |found| !is_held(found))?;
    assert_ne!(left["metadata"]["deletionTimestamp"], Value::Null);
    first.passes(2)?;
    assert_eq!(first.writes(&i)?, [ASSOCIATE, REPLACE], "and nobody fights for it");
    api.merge(&first.path("web"), &json!({"metadata": {"finalizers": null}}))?;
    first.vanishes("web")
}

#[test]
fn a_foreign_finalizer_on_what_never_writes_is_not_in_the_way_either() -> Result<()> {
    let s = stranger("retains")?;
    for name in ["retains-old", "retains-new"] {
        s.sandbox().profile(name)?;
    }
    let i = s.sandbox().instance("running", None)?;
    s.grant("own", &allowing(&["retains-old", "retains-new"]))?;
    let spec =
        json!({"instanceId": i, "instanceProfile": {"name": "retains-old"}, "deletionPolicy": "Retain"});
    s.apply("older", &spec)?;
    s.is_carried_out("older")?;
    let api = s.world().control_plane().api();
    api.merge(&s.path("older"), &json!({"metadata": {"finalizers": ["example.com/for-ever"]}}))?;
    s.delete("older")?;
    a_second_later()?;
    s.bind("younger", &i, &json!({"name": "retains-new"}))?;
    s.is_carried_out("younger")?;
    assert_eq!(s.writes(&i)?, [ASSOCIATE, REPLACE]);
    api.merge(&s.path("older"), &json!({"metadata": {"finalizers": null}}))?;
    s.vanishes("older")
}

#[test]
fn a_suspended_successor_takes_nothing_over() -> Result<()> {
    let s = stranger("suspended")?;
    for name in ["suspended-a", "suspended-b"] {
        s.sandbox().profile(name)?;
    }
    let i = s.sandbox().instance("running", Some("suspended-a"))?;
    s.grant("own", &allowing(&["suspended-a", "suspended-b"]))?;
    s.bind("older", &i, &json!({"name": "suspended-a"}))?;
    s.is_carried_out("older")?;
    a_second_later()?;
    let suspended = json!({"instanceId": i, "instanceProfile": {"name": "suspended-b"}, "suspend": true});
    s.apply("younger", &suspended)?;
    s.patiently("younger", "is suspended", |found| condition(found, "Suspended")["status"] == "True")?;
    s.delete("older")?;
    // Not after the two minutes that a successor has: this one is not going to write.
    s.vanishes("older")?;
    s.passes(2)?;
    assert_eq!(s.writes(&i)?, [DISASSOCIATE], "as the policy of the one that went says");
    Ok(())
}

#[test]
fn a_successor_without_a_grant_neither_takes_over_nor_delays() -> Result<()> {
    let (s, other) = (stranger("goes")?, stranger("would-follow")?);
    s.sandbox().profile("goes-app")?;
    let i = s.sandbox().instance("running", Some("goes-app"))?;
    s.grant("own", &allowing(&["goes-app"]))?;
    s.bind("older", &i, &json!({"name": "goes-app"}))?;
    s.is_carried_out("older")?;
    a_second_later()?;
    other.bind("younger", &i, &json!({"name": "goes-app"}))?;
    other.is_refused("younger")?;
    s.delete("older")?;
    s.vanishes("older")?;
    s.passes(2)?;
    assert_eq!(s.writes(&i)?, [DISASSOCIATE]);
    other.is_refused("younger")?;
    Ok(())
}

#[test]
fn many_bindings_take_no_more_than_their_namespace_was_given() -> Result<()> {
    const FLOOD: usize = 25;
    let (greedy, modest) = (stranger("greedy")?, stranger("modest")?);
    greedy.sandbox().profile("shared-app")?;
    let everybodys = json!({"names": [greedy.namespace(), modest.namespace()]});
    let spec = with(with(allowing(&["shared-app"]), "namespaces", everybodys), "maxBindings", json!(2));
    greedy.grant("both", &spec)?;
    let instances = greedy.sandbox().add_instances(&json!({"count": FLOOD, "state": "running"}))?;
    let app = json!({"name": "shared-app"});
    for (n, i) in instances.iter().take(2).enumerate() {
        greedy.bind(&format!("web-{n:02}"), i, &app)?;
    }
    a_second_later()?;
    for (n, i) in instances.iter().enumerate().skip(2) {
        greedy.bind(&format!("web-{n:02}"), i, &app)?;
    }
    let own = modest.sandbox().instance("running", None)?;
    modest.bind("web", &own, &app)?;
    modest.is_carried_out("web")?;

    for n in 0..2 {
        greedy.is_carried_out(&format!("web-{n:02}"))?;
    }
    for n in 2..FLOOD {
        greedy.is_refused(&format!("web-{n:02}"))?;
    }
    let last = greedy.binding("web-24")?;
    assert!(message(&last).contains('2'), "the limit is told: {}", message(&last));
    for i in instances.iter().skip(2) {
        assert_eq!(greedy.writes(i)?, [""; 0]);
    }

    // The room of one that goes is the next one's, and nobody else's.
    greedy.delete("web-00")?;
    greedy.vanishes("web-00")?;
    let taken = |()| -> Result<usize> {
        let mut taken = 0;
        for n in 1..FLOOD {
            taken += usize::from(truth(&greedy.binding(&format!("web-{n:02}"))?, "Authorized") == "True");
        }
        Ok(taken)
    };
    world::eventually_ok("two have rights again", std::time::Duration::from_secs(30), || match taken(())? {
        2 => Ok(()),
        other => Err(anyhow::anyhow!("{other} have")),
    })?;
    greedy.is_carried_out("web-01")?;
    greedy.passes(2)?;
    assert_eq!(taken(())?, 2);
    Ok(())
}

#[test]
fn an_older_binding_that_may_not_touch_a_node_does_not_keep_it() -> Result<()> {
    let (wide, named) = (stranger("wide"), stranger("named"));
    let (wide, named) = (wide?, named?);
    let app = named.sandbox().profile("node-app")?;
    let node = json!({"count": 1, "state": "running", "tags": {"kubernetes.io/cluster/prod": "owned"}});
    let i = named.sandbox().add_instances(&node)?.remove(0);
    wide.grant("own", &allowing(&["node-app"]))?;
    named.grant("own", &allowing_on(&["node-app"], &[&i]))?;
    wide.bind("claim", &i, &json!({"name": "node-app"}))?;
    wide.reaches("claim", "InstanceProtected")?;
    a_second_later()?;
    named.bind("web", &i, &json!({"name": "node-app"}))?;
    named.is_carried_out("web")?;
    assert_eq!(named.sandbox().profile_of(&i)?, Some(app));
    named.delete("web")?;
    named.vanishes("web")?;
    assert_eq!(named.writes(&i)?, [ASSOCIATE, DISASSOCIATE], "and its deletion is its own");
    assert_eq!(wide.sandbox().profile_of(&i)?, None);
    Ok(())
}

#[test]
fn an_older_binding_that_does_nothing_keeps_no_profile_where_it_was_withdrawn() -> Result<()> {
    let (idle, owner) = (stranger("idle")?, stranger("owner")?);
    for name in ["owner-app", "idle-app"] {
        idle.sandbox().profile(name)?;
    }
    let i = owner.sandbox().instance("running", None)?;
    idle.grant("own", &allowing_on(&["idle-app"], &[&i]))?;
    owner.grant("own", &allowing_on(&["owner-app"], &[&i]))?;
    let spec = json!({"instanceId": &i, "mode": "Observe", "instanceProfile": {"name": "idle-app"}});
    idle.apply("claim", &spec)?;
    idle.patiently("claim", "is looked at", is_observed)?;
    a_second_later()?;
    owner.bind("web", &i, &json!({"name": "owner-app"}))?;
    owner.is_carried_out("web")?;
    idle.edit("claim", json!({"mode": "Enforce", "suspend": true}))?;
    owner.reaches("web", "Conflict")?;
    owner.delete("web")?;
    owner.vanishes("web")?;
    assert_eq!(owner.sandbox().profile_of(&i)?, None, "who withdraws a profile has it withdrawn");
    assert_eq!(owner.writes(&i)?, [ASSOCIATE, DISASSOCIATE]);
    Ok(())
}

#[test]
fn who_declares_many_profiles_that_are_not_there_keeps_nobody_waiting_for_iam() -> Result<()> {
    const FLOOD: usize = 400;
    let world = world(&[])?;
    let dreamer = world.scenario("dreamer")?;
    let instances = dreamer.sandbox().add_instances(&json!({"count": FLOOD, "state": "running"}))?;
    let name = |n: usize| format!("dream-{n:03}");
    for (n, i) in instances.iter().enumerate() {
        dreamer.bind(&name(n), i, &json!({"name": name(n)}))?;
    }
    for n in 0..FLOOD {
        let told = "is told that there is no such profile";
        let within = std::time::Duration::from_secs(150);
        dreamer.wait_until_within(within, &name(n), told, |found| message(found).contains("IAM has no"))?;
    }
    // The listing told most of them, so who comes next waits for the listing at most, however many there are.
    let calls = dreamer.sandbox().calls_since(0)?;
    let asked: HashSet<&str> = calls
        .iter()
        .filter(|call| call.action == "GetInstanceProfile")
        .filter_map(|call| call.params.get("InstanceProfileName").and_then(Value::as_str))
        .collect();
    assert!(!asked.is_empty() && asked.len() < FLOOD, "{} were looked up one by one", asked.len());
    Ok(())
}

#[test]
fn an_older_binding_whose_role_is_never_there_keeps_nobody_waiting_for_long() -> Result<()> {
    let (older, younger) = (stranger("doubtful")?, stranger("clear")?);
    let app = younger.sandbox().profile("doubted")?;
    let i = younger.sandbox().instance("running", None)?;
    let missing = json!({"assumeRoleArn": format!("arn:aws:iam::{}:role/nowhere", world::ACCOUNT)});
    older.grant("own", &with(allowing_on(&["doubted"], &[&i]), "aws", missing))?;
    younger.grant("own", &allowing_on(&["doubted"], &[&i]))?;
    older.bind("claim", &i, &json!({"name": "doubted"}))?;
    older.patiently("claim", "waits for its role", |found| message(found).contains("role/nowhere"))?;
    a_second_later()?;
    younger.bind("web", &i, &json!({"name": "doubted"}))?;
    younger.carries(&i, Some(&app))?;
    younger.is_carried_out("web")?;
    Ok(())
}
