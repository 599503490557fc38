//! Instances that a wide grant does not mean: the nodes of a cluster, the controller's own, those of a service, those
//! that do not consent.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use world::{ACCOUNT, Grants, Scenario, World, WorldOptions};

use crate::grants::{Rights, allowing, allowing_on, stranger, with};
use crate::stage::{ASSOCIATE, DISASSOCIATE, Story, aws, is_held, message, truth};

fn make(s: &Scenario<'_>, instance: Value) -> Result<String> {
    let mut instance = instance;
    instance["count"] = json!(1);
    Ok(s.sandbox().add_instances(&instance)?.remove(0))
}

#[test]
fn nodes_are_for_grants_that_name_them() -> Result<()> {
    let s = stranger("nodes")?;
    let app = s.sandbox().profile("nodes-app")?;
    s.grant("wide", &allowing(&["nodes-app"]))?;
    let tags = [
        "kubernetes.io/cluster/prod",
        "karpenter.sh/nodepool",
        "karpenter.sh/discovery",
        "eks:cluster-name",
        "aws:eks:cluster-name",
    ];
    let mut nodes = Vec::new();
    for (n, tag) in tags.iter().enumerate() {
        // Whatever its value.
        let value = if n % 2 == 0 { "owned" } else { "" };
        let i = make(&s, json!({"tags": {*tag: value, "team": "a"}}))?;
        s.bind(&format!("node-{n}"), &i, &json!({"name": "nodes-app"}))?;
        nodes.push(i);
    }
    // Only alike: these are nobody's nodes.
    let free = make(&s, json!({"tags": {"Kubernetes.io/role": "x", "my-karpenter.sh/x": "y", "eks": "no"}}))?;
    s.bind("free", &free, &json!({"name": "nodes-app"}))?;
    s.is_carried_out("free")?;
    for (n, i) in nodes.iter().enumerate() {
        let binding = s.reaches(&format!("node-{n}"), "InstanceProtected")?;
        assert_eq!(truth(&binding, "Stalled"), "True");
        assert!(
            message(&binding).contains(i) && message(&binding).contains("grant"),
            "{}",
            message(&binding)
        );
    }
    s.passes(2)?;
    for i in &nodes {
        assert_eq!(s.writes(i)?, [""; 0]);
    }
    // A grant that names one lifts it for that one, if it gives the profile as well.
    s.grant("names", &allowing_on(&["nodes-app"], &[&nodes[0]]))?;
    s.grant("names-for-another-profile", &allowing_on(&["nodes-other"], &[&nodes[1]]))?;
    s.is_carried_out("node-0")?;
    assert_eq!(s.sandbox().profile_of(&nodes[0])?, Some(app));
    s.passes(2)?;
    assert_eq!(s.writes(&nodes[0])?, [ASSOCIATE]);
    assert_eq!(s.writes(&nodes[1])?, [""; 0], "no right is pieced together");
    Ok(())
}

#[test]
fn an_instance_that_becomes_a_node_is_left_as_it_is() -> Result<()> {
    let s = stranger("becomes-node")?;
    let app = s.sandbox().profile("becomes-app")?;
    let i = make(&s, json!({}))?;
    s.grant("wide", &allowing(&["becomes-app"]))?;
    s.bind("web", &i, &json!({"name": "becomes-app"}))?;
    s.is_carried_out("web")?;
    s.sandbox().retag(&i, &json!({"kubernetes.io/cluster/prod": "owned"}))?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    s.delete("web")?;
    s.vanishes("web")?;
    assert_eq!(s.sandbox().profile_of(&i)?, Some(app));
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn what_a_service_manages_is_for_nobody() -> Result<()> {
    let s = stranger("managed")?;
    s.sandbox().profile("managed-app")?;
    let i = make(&s, json!({"managed": true}))?;
    s.grant("names", &allowing_on(&["managed-app"], &[&i]))?;
    s.bind("web", &i, &json!({"name": "managed-app"}))?;
    let binding = s.reaches("web", "InstanceProtected")?;
    assert_eq!(truth(&binding, "Authorized"), "True", "a grant names it; AWS lets nobody");
    s.passes(2)?;
    assert_eq!(s.writes(&i)?, [""; 0]);
    Ok(())
}

#[test]
fn the_instance_that_the_controller_runs_on_as_a_flag_tells() -> Result<()> {
    let mut world = World::new(WorldOptions {
        without_controller: true,
        grants: Grants::None,
        ..WorldOptions::default()
    })?;
    let s = world.scenario("self")?;
    s.sandbox().profile("app")?;
    let (own, other) = (make(&s, json!({"profile": "app"}))?, make(&s, json!({}))?);
    let flags = ["--resync-interval=1s".to_owned(), format!("--self-instance-id={own}")];
    let controller = world.controller_command().args(flags).start(world.scratch().path(), "knows-itself")?;
    s.grant("wide", &allowing(&["app"]))?;
    s.bind("saw", &own, &json!({"none": {}}))?;
    s.bind("web", &other, &json!({"name": "app"}))?;
    s.reaches("saw", "InstanceProtected")?;
    s.is_carried_out("web")?;
    s.passes(2)?;
    assert_eq!(s.writes(&own)?, [""; 0], "nobody saws off its branch");
    s.grant("names", &allowing_on(&["app"], &[&own]))?;
    s.reaches("saw", "Disassociated")?;
    assert_eq!(s.writes(&own)?, [DISASSOCIATE], "but by an administrator's word");
    drop(controller);
    assert!(world.take_controller().is_err(), "the only one was the test's own");
    Ok(())
}

#[test]
fn the_instance_that_the_controller_runs_on_as_its_credentials_tell() -> Result<()> {
    let world = World::new(WorldOptions {
        without_controller: true,
        grants: Grants::None,
        ..WorldOptions::default()
    })?;
    let s = world.scenario("session")?;
    s.sandbox().profile("app")?;
    let (own, other) = (make(&s, json!({}))?, make(&s, json!({}))?);
    // An instance's own credentials are a session of its role whose name is the instance's id.
    s.sandbox().post("roles", &json!({"name": "host"}))?;
    let words =
        format!("sts assume-role --role-arn arn:aws:iam::{ACCOUNT}:role/host --role-session-name {own}");
    let minted = aws(&s, &words)?;
    let part = |name: &str| -> Result<String> {
        Ok(minted["Credentials"][name].as_str().context("no credentials")?.to_owned())
    };
    let command = world
        .controller_command()
        .args(["--resync-interval=1s"])
        .env("AWS_ACCESS_KEY_ID", &part("AccessKeyId")?)
        .env("AWS_SECRET_ACCESS_KEY", &part("SecretAccessKey")?)
        .env("AWS_SESSION_TOKEN", &part("SessionToken")?);
    let _controller = command.start(world.scratch().path(), "on-an-instance")?;
    s.grant("wide", &allowing(&["app"]))?;
    s.bind("saw", &own, &json!({"name": "app"}))?;
    s.bind("web", &other, &json!({"name": "app"}))?;
    s.reaches("saw", "InstanceProtected")?;
    s.is_carried_out("web")?;
    s.passes(2)?;
    assert_eq!(s.writes(&own)?, [""; 0]);
    assert_eq!(s.writes(&other)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn where_instances_must_consent_no_grant_helps_without() -> Result<()> {
    let world = World::new(WorldOptions {
        controller_flags: vec!["--resync-interval=1s".into(), "--require-instance-tag=managed-by=us".into()],
        grants: Grants::None,
        ..WorldOptions::default()
    })?;
    let s = world.scenario("consent")?;
    let app = s.sandbox().profile("app")?;
    let consents = make(&s, json!({"tags": {"managed-by": "us"}}))?;
    let refuses = make(&s, json!({"tags": {"managed-by": "US"}}))?;
    let says_nothing = make(&s, json!({}))?;
    let absent = "i-0fedcba9876543210".to_owned();
    s.grant("wide", &allowing(&["app"]))?;
    s.grant("names", &allowing_on(&["app"], &[&refuses, &says_nothing, &absent]))?;
    let profile = json!({"name": "app"});
    s.bind("consents", &consents, &profile)?;
    s.is_carried_out("consents")?;
    let mut words = Vec::new();
    for (binding, i) in [("refuses", &refuses), ("mute", &says_nothing), ("absent", &absent)] {
        s.bind(binding, i, &profile)?;
        let told = s.is_refused(binding)?;
        words.push(message(&told).replace(i.as_str(), "IT"));
    }
    assert!(words.iter().all(|one| *one == words[0]), "not there and not consenting read alike: {words:?}");

    // Consent that is withdrawn freezes; given again, it goes on.
    s.sandbox().retag(&consents, &json!({}))?;
    s.loses_its_right("consents")?;
    s.sandbox().drift(&consents, None)?;
    s.passes(2)?;
    assert_eq!(s.writes(&consents)?, [ASSOCIATE]);
    assert!(is_held(&s.binding("consents")?), "what it may have to undo one day is not forgotten");
    s.sandbox().retag(&consents, &json!({"managed-by": "us"}))?;
    s.is_carried_out("consents")?;
    s.carries(&consents, Some(&app))?;
    for i in [&refuses, &says_nothing] {
        assert_eq!(s.writes(i)?, [""; 0]);
    }
    assert_eq!(s.writes(&consents)?, [ASSOCIATE, ASSOCIATE]);
    Ok(())
}

#[test]
fn a_grant_by_tag_does_not_mean_nodes_that_carry_it() -> Result<()> {
    let s = stranger("tagged-node")?;
    s.sandbox().profile("tagged-node-app")?;
    let i = make(&s, json!({"tags": {"team": "a", "eks:nodegroup-name": "blue"}}))?;
    s.grant("own", &with(allowing(&["tagged-node-app"]), "instances", json!({"tags": {"team": "a"}})))?;
    s.bind("web", &i, &json!({"name": "tagged-node-app"}))?;
    s.reaches("web", "InstanceProtected")?;
    s.passes(2)?;
    assert_eq!(s.writes(&i)?, [""; 0]);
    Ok(())
}
