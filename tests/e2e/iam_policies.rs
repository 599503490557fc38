//! The policies of `deploy/iam`, evaluated by the sandbox for the controller: each gives what the controller calls, and
//! no more, and each of its conditions holds something back.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{ACCOUNT, AwsCli, Sandbox, Scenario, Scratch, World, WorldOptions, eventually_ok, repository};

use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE, Story, is_held, message, quick_world, world};

/// The tag and the path that the shipped policies speak of.
const TAG: &str = "instancerole.dev/managed";
const PATH: &str = "/managed/";

/// A shipped policy with the account put in, as its README tells the reader to.
fn shipped(file: &str) -> Result<Value> {
    let path = repository().join("deploy/iam").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| format!("{} is not there", path.display()))?;
    Ok(serde_json::from_str(&text.replace("111122223333", ACCOUNT))?)
}

/// Allows the controller what this policy allows and nothing else.
fn allow(sandbox: &Sandbox, policy: &Value) -> Result<()> {
    sandbox.delete("policies")?;
    let key = sandbox.aws_env().access_key().to_owned();
    sandbox.post("policies", &json!({"accessKey": key, "policy": policy})).map(drop)
}

/// A policy without its statement of this name.
fn without(mut policy: Value, sid: &str) -> Result<Value> {
    let statements = policy["Statement"].as_array_mut().context("a policy without statements")?;
    let before = statements.len();
    statements.retain(|statement| statement["Sid"] != sid);
    ensure!(statements.len() + 1 == before, "there is no statement {sid}");
    Ok(policy)
}

/// The actions that a policy allows. It has no wildcards: those could not be compared with anything.
fn actions(policy: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for statement in policy["Statement"].as_array().into_iter().flatten() {
        assert_eq!(statement["Effect"], "Allow");
        match &statement["Action"] {
            Value::String(action) => drop(all.insert(action.clone())),
            list => {
                all.extend(list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned))
            }
        }
    }
    assert!(all.iter().all(|action| !action.contains('*')), "{all:?}");
    all
}

/// What the controller asked of AWS, as `service:Action` with the result. `sts:GetCallerIdentity` needs no permission.
fn calls(sandbox: &Sandbox) -> Result<Vec<(String, String)>> {
    let journal = sandbox.get("journal?since=0")?;
    let key = sandbox.aws_env().access_key().to_owned();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mine = journal["entries"].as_array().into_iter().flatten().filter(|entry| entry["accessKey"] == key);
    let calls = mine.map(|entry| {
        (format!("{}:{}", text(&entry["service"]), text(&entry["action"])), text(&entry["result"]))
    });
    Ok(calls.filter(|(action, _)| action != "sts:GetCallerIdentity").collect())
}

/// The actions asked for, and those of them that were denied.
fn asked_and_denied(sandbox: &Sandbox) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let calls = calls(sandbox)?;
    let denied = |result: &str| result == "UnauthorizedOperation" || result == "AccessDenied";
    let refused =
        calls.iter().filter(|(_, result)| denied(result)).map(|(action, _)| action.clone()).collect();
    Ok((calls.into_iter().map(|(action, _)| action).collect(), refused))
}

/// `iam:PassRole` is no call: EC2 checks it when a profile is handed to it.
fn called(mut actions: BTreeSet<String>) -> BTreeSet<String> {
    actions.remove("iam:PassRole");
    actions
}

fn managed(sandbox: &Sandbox, profile: &str) -> Result<String> {
    sandbox.add_profile(&json!({"name": profile, "path": PATH}))
}

fn tagged(sandbox: &Sandbox, state: &str, profile: Option<&str>) -> Result<String> {
    let instance = json!({"count": 1, "state": state, "profile": profile, "tags": {TAG: "true"}});
    sandbox.add_instances(&instance)?.into_iter().next().context("no instance was made")
}

/// Waits until the binding says that this action on this resource was denied.
fn is_denied(s: &Scenario<'_>, binding: &str, action: &str, resource: &str) -> Result<Value> {
    let found = s.reaches(binding, "AccessDenied")?;
    let told = message(&found);
    ensure!(told.contains(&format!("AWS denied {action} on {resource}")), "{binding}: {told}");
    Ok(found)
}

/// Has the controller look for a name and a role that are in no listing: each then is asked for by itself.
fn look_for_what_is_absent(s: &Scenario<'_>) -> Result<()> {
    for (binding, profile, look) in [
        ("no-name", json!({"name": "absent"}), "iam:GetInstanceProfile"),
        ("no-role", json!({"roleName": "absent"}), "iam:ListInstanceProfilesForRole"),
    ] {
        s.bind(binding, &tagged(s.sandbox(), "running", None)?, &profile)?;
        eventually_ok(look, Duration::from_secs(30), || {
            let (asked, _) = asked_and_denied(s.sandbox())?;
            ensure!(asked.contains(look), "asked so far: {asked:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn instance_arn(instance: &str) -> String {
    format!("arn:aws:ec2:eu-west-1:{ACCOUNT}:instance/{instance}")
}

#[test]
fn full_is_enough_for_everything_and_holds_nothing_superfluous() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("full")?;
    let sandbox = s.sandbox();
    let policy = shipped("full.json")?;
    allow(sandbox, &policy)?;
    let (app, old) = (managed(sandbox, "app")?, managed(sandbox, "old")?);
    let (bare, running, stopped) = (
        tagged(sandbox, "running", None)?,
        tagged(sandbox, "running", Some("old"))?,
        tagged(sandbox, "stopped", Some("old"))?,
    );
    s.bind("attach", &bare, &json!({"name": "app"}))?;
    s.bind("replace", &running, &json!({"roleName": "app"}))?;
    s.bind("swap", &stopped, &json!({"arn": app}))?;
    s.reaches("attach", "Associated")?;
    s.reaches("replace", "Associated")?;
    s.carries(&stopped, Some(&app))?;
    s.choose("attach", json!({"none": {}}))?;
    s.reaches("attach", "Disassociated")?;
    s.delete("replace")?;
    s.vanishes("replace")?;
    s.carries(&running, None)?;
    look_for_what_is_absent(&s)?;

    let (asked, denied) = asked_and_denied(sandbox)?;
    assert_eq!(denied, BTreeSet::new(), "{old}");
    assert_eq!(asked, called(actions(&policy)));
    for (instance, expected) in [
        (&bare, vec![ASSOCIATE, DISASSOCIATE]),
        (&running, vec![REPLACE, DISASSOCIATE]),
        (&stopped, vec![DISASSOCIATE, ASSOCIATE]),
    ] {
        assert_eq!(s.changes(instance)?, expected);
    }
    Ok(())
}

#[test]
fn full_reaches_tagged_instances_and_managed_profiles_and_roles_only() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("bounds")?;
    let sandbox = s.sandbox();
    let policy = shipped("full.json")?;
    allow(sandbox, &policy)?;
    managed(sandbox, "app")?;
    let role = |name: &str, path: &str| sandbox.post("roles", &json!({"name": name, "path": path}));
    role("inside", PATH)?;
    role("outside", "/")?;
    sandbox.add_profile(&json!({"name": "elsewhere", "roleName": "inside"}))?;
    let own = sandbox.add_profile(&json!({"name": "wolf", "path": PATH, "roleName": "outside"}))?;
    ensure!(own.ends_with(":instance-profile/managed/wolf"), "{own}");

    let untagged = sandbox.instance("running", None)?;
    s.bind("untagged", &untagged, &json!({"name": "app"}))?;
    let held = tagged(sandbox, "running", None)?;
    s.bind("path", &held, &json!({"name": "elsewhere"}))?;
    let passed = tagged(sandbox, "running", None)?;
    s.bind("role", &passed, &json!({"name": "wolf"}))?;
    let attached = sandbox.instance("running", Some("app"))?;
    s.bind("detach", &attached, &json!({"none": {}}))?;
    let replaced = sandbox.instance("running", Some("elsewhere"))?;
    s.bind("replace", &replaced, &json!({"name": "app"}))?;

    is_denied(&s, "untagged", "ec2:AssociateIamInstanceProfile", &instance_arn(&untagged))?;
    is_denied(&s, "path", "ec2:AssociateIamInstanceProfile", &instance_arn(&held))?;
    is_denied(&s, "role", "iam:PassRole", &format!("arn:aws:iam::{ACCOUNT}:role/outside"))?;
    is_denied(&s, "detach", "ec2:DisassociateIamInstanceProfile", &instance_arn(&attached))?;
    is_denied(&s, "replace", "ec2:ReplaceIamInstanceProfileAssociation", &instance_arn(&replaced))?;
    for instance in [&untagged, &held, &passed, &attached, &replaced] {
        assert_eq!(s.changes(instance)?, [""; 0]);
    }

    // The tag was all that was missing.
    for (binding, instance) in [("untagged", &untagged), ("replace", &replaced)] {
        sandbox.change_instance(instance, &json!({"tags": {TAG: "true"}}))?;
        s.ask(binding)?;
        s.reaches(binding, "Associated")?;
    }
    Ok(())
}

#[test]
fn a_role_is_passed_by_the_pass_role_statement_alone_and_to_ec2_alone() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("pass")?;
    let sandbox = s.sandbox();
    managed(sandbox, "app")?;
    let i = tagged(sandbox, "running", None)?;
    let role = format!("arn:aws:iam::{ACCOUNT}:role/managed/app");
    allow(sandbox, &without(shipped("full.json")?, "PassRole")?)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    is_denied(&s, "web", "iam:PassRole", &role)?;

    // To another service: were there no iam:PassedToService in the file, this would change nothing and be allowed.
    let other = shipped("full.json")?.to_string().replace("ec2.amazonaws.com", "lambda.amazonaws.com");
    allow(sandbox, &serde_json::from_str(&other)?)?;
    let asked = s.ask("web")?;
    s.patiently("web", "was looked at again", |found| found["status"]["lastHandledRequestedAt"] == asked)?;
    is_denied(&s, "web", "iam:PassRole", &role)?;

    allow(sandbox, &shipped("full.json")?)?;
    s.ask("web")?;
    s.reaches("web", "Associated")?;
    Ok(())
}

/// The commands for other partitions in `deploy/iam/README.md`, as a reader would run them, one after the other.
fn forms_for_other_partitions() -> Result<Vec<Value>> {
    let readme = std::fs::read_to_string(repository().join("deploy/iam/README.md"))?;
    let section = readme.split("### China and GovCloud").nth(1).context("no section on China")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let commands = section.split("```sh").skip(1).filter_map(|rest| rest.split("```").next());
    let forms = commands.map(|command| {
        let folder = Scratch::new("partition")?;
        let policy = folder.path().join("policy.json");
        let full = shipped("full.json")?;
        std::fs::write(&policy, serde_json::to_string_pretty(&full)?)?;
        let output = Command::new("sh").args(["-ec", command]).current_dir(folder.path()).output()?;
        ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&std::fs::read_to_string(policy)?).context(command.to_owned())
    });
    forms.collect()
}

#[test]
fn the_forms_for_china_and_govcloud_work_there() -> Result<()> {
    let forms = forms_for_other_partitions()?;
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    let sandbox = world.sandbox();
    ensure!(forms.len() == 2, "{forms:#?}");
    for (form, region) in forms.into_iter().zip(["cn-north-1", "us-gov-west-1"]) {
        let policy: Value = serde_json::from_str(&form.to_string().replace("eu-west-1", region))?;
        let me = sandbox.aws_env().in_region(region);
        sandbox
            .post("policies", &json!({"accessKey": me.access_key(), "region": region, "policy": policy}))?;
        sandbox.post("profiles", &json!({"region": region, "name": "app", "path": PATH}))?;
        let made = json!({"region": region, "count": 1, "tags": {TAG: "true"}});
        let instance = sandbox.add_instances(&made)?.remove(0);
        let me = AwsCli::new(me);
        me.run(&[
            "ec2",
            "associate-iam-instance-profile",
            "--instance-id",
            &instance,
            "--iam-instance-profile",
            "Name=app",
        ])
        .with_context(|| format!("the policy for {region} is not enough"))?;
        me.run(&["iam", "get-instance-profile", "--instance-profile-name", "app"])?;
    }
    Ok(())
}

#[test]
fn associate_only_attaches_where_none_is_and_can_do_nothing_else() -> Result<()> {
    let world = quick_world()?;
    let s = world.scenario("associate-only")?;
    let sandbox = s.sandbox();
    let policy = shipped("associate-only.json")?;
    allow(sandbox, &policy)?;
    let (app, old) = (managed(sandbox, "app")?, managed(sandbox, "old")?);
    let bare = tagged(sandbox, "running", None)?;
    s.bind("attach", &bare, &json!({"name": "app"}))?;
    s.reaches("attach", "Associated")?;
    let by_role = tagged(sandbox, "running", None)?;
    s.bind("by-role", &by_role, &json!({"roleName": "app"}))?;
    s.reaches("by-role", "Associated")?;
    look_for_what_is_absent(&s)?;
    let (asked, denied) = asked_and_denied(sandbox)?;
    assert_eq!(denied, BTreeSet::new());
    assert_eq!(asked, called(actions(&policy)), "nothing superfluous");

    let running = tagged(sandbox, "running", Some("old"))?;
    s.bind("replace", &running, &json!({"name": "app"}))?;
    is_denied(&s, "replace", "ec2:ReplaceIamInstanceProfileAssociation", &instance_arn(&running))?;
    s.delete("attach")?;
    let kept = is_denied(&s, "attach", "ec2:DisassociateIamInstanceProfile", &instance_arn(&bare))?;
    assert!(is_held(&kept), "deletion waits until it is allowed or released");
    s.carries(&bare, Some(&app))?;
    s.carries(&running, Some(&old))?;

    // Its condition by itself: not even an Associate reaches an instance that has a profile.
    let me = AwsCli::new(sandbox.aws_env());
    let name = "Name=app";
    let told = me.run(&[
        "ec2",
        "associate-iam-instance-profile",
        "--instance-id",
        &running,
        "--iam-instance-profile",
        name,
    ]);
    let told = told.err().context("a second profile was attached")?;
    ensure!(format!("{told:#}").contains("UnauthorizedOperation"), "{told:#}");
    let untagged = sandbox.instance("running", None)?;
    s.bind("untagged", &untagged, &json!({"name": "app"}))?;
    is_denied(&s, "untagged", "ec2:AssociateIamInstanceProfile", &instance_arn(&untagged))?;
    Ok(())
}

#[test]
fn observe_only_reads_all_that_observing_needs_and_writes_nothing() -> Result<()> {
    let world = world(&["--resync-interval=1s", "--default-mode=Observe"])?;
    let s = world.scenario("observe-only")?;
    let sandbox = s.sandbox();
    let policy = shipped("observe-only.json")?;
    allow(sandbox, &policy)?;
    let (app, old) = (managed(sandbox, "app")?, managed(sandbox, "old")?);
    let running = tagged(sandbox, "running", Some("old"))?;
    let stopped = tagged(sandbox, "stopped", Some("old"))?;
    let same = tagged(sandbox, "running", Some("app"))?;
    s.bind("by-name", &running, &json!({"name": "app"}))?;
    s.bind("by-role", &stopped, &json!({"roleName": "app"}))?;
    s.bind("same", &same, &json!({"arn": app}))?;
    for binding in ["by-name", "by-role"] {
        let seen = s.reaches(binding, "ObserveOnly")?;
        assert_eq!(seen["status"]["observed"]["profileArn"], old);
        assert_ne!(seen["status"]["plan"], Value::Null, "it tells what is due");
    }
    s.reaches("same", "Associated")?;
    look_for_what_is_absent(&s)?;
    let (asked, denied) = asked_and_denied(sandbox)?;
    assert_eq!(denied, BTreeSet::new());
    assert_eq!(asked, called(actions(&policy)), "nothing superfluous, and no write was tried");

    // A binding that insists is told no.
    let bare = tagged(sandbox, "running", None)?;
    s.apply("insists", &json!({"instanceId": bare, "instanceProfile": {"name": "app"}, "mode": "Enforce"}))?;
    is_denied(&s, "insists", "ec2:AssociateIamInstanceProfile", &instance_arn(&bare))?;
    s.carries(&bare, None)
}

#[test]
fn each_policy_holds_what_the_one_above_it_holds() -> Result<()> {
    let [observe, associate, full] = ["observe-only.json", "associate-only.json", "full.json"].map(shipped);
    let (observe, associate, full) = (actions(&observe?), actions(&associate?), actions(&full?));
    assert!(observe.is_subset(&associate) && associate.is_subset(&full));
    let writes: BTreeSet<_> = full.difference(&observe).map(String::as_str).collect();
    let expected = [
        "ec2:AssociateIamInstanceProfile",
        "ec2:DisassociateIamInstanceProfile",
        "ec2:ReplaceIamInstanceProfileAssociation",
        "iam:PassRole",
    ];
    assert_eq!(writes, expected.into());
    Ok(())
}

#[test]
fn no_policy_reads_another_region() -> Result<()> {
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    let sandbox = world.sandbox();
    let (here, there) = (sandbox.aws_env(), sandbox.aws_env().in_region("us-east-1"));
    for file in ["observe-only.json", "associate-only.json", "full.json"] {
        allow(sandbox, &shipped(file)?)?;
        for read in ["describe-instances", "describe-iam-instance-profile-associations"] {
            AwsCli::new(here.clone()).run(&["ec2", read])?;
            let told = AwsCli::new(there.clone()).run(&["ec2", read]).err();
            let told =
                format!("{:#}", told.with_context(|| format!("{file} lets {read} reach another Region"))?);
            ensure!(told.contains("UnauthorizedOperation"), "{file}: {told}");
        }
    }
    Ok(())
}

/// Roles in another account: the controller's own policy names them, and they ask for the external id.
#[test]
fn a_role_in_another_account_opens_to_the_controller_with_its_external_id_alone() -> Result<()> {
    let world = World::new(WorldOptions { without_controller: true, ..WorldOptions::default() })?;
    let sandbox = world.sandbox();
    // The reader puts his accounts and roles in: here the controller is a user of the sandbox.
    let me = format!("arn:aws:iam::{ACCOUNT}:user/TEST");
    let trust = shipped("target-account-trust.json")?
        .to_string()
        .replace(&format!("arn:aws:iam::{ACCOUNT}:role/instance-role-controller"), &me);
    let trust: Value = serde_json::from_str(&trust)?;
    for (name, account) in [("instance-role-controller-target", "444455556666"), ("another", "444455556666")]
    {
        sandbox.post("roles", &json!({"account": account, "name": name, "trust": trust}))?;
    }
    allow(sandbox, &shipped("assume-roles.json")?)?;
    let assume = |user: &str, role: &str, id: Option<&str>| {
        let role = format!("arn:aws:iam::444455556666:role/{role}");
        let mut args = vec!["sts", "assume-role", "--role-session-name", "test", "--role-arn", role.as_str()];
        args.extend(id.iter().flat_map(|id| ["--external-id", *id]));
        AwsCli::new(sandbox.aws_env().as_user(ACCOUNT, user)).run(&args)
    };
    let target = "instance-role-controller-target";
    let session = assume("TEST", target, Some("EXAMPLE-EXTERNAL-ID"))?;
    let arn = session["AssumedRoleUser"]["Arn"].as_str().unwrap_or_default();
    assert!(
        arn.starts_with("arn:aws:sts::444455556666:assumed-role/instance-role-controller-target/"),
        "{arn}"
    );
    for (story, user, role, id) in [
        ("no external id", "TEST", target, None),
        ("another external id", "TEST", target, Some("guessed")),
        ("a role that the policy does not name", "TEST", "another", Some("EXAMPLE-EXTERNAL-ID")),
        ("somebody else of the controller's account", "PERSON", target, Some("EXAMPLE-EXTERNAL-ID")),
    ] {
        let told = assume(user, role, id).err().with_context(|| format!("{story}: the role was given"))?;
        ensure!(format!("{told:#}").contains("AccessDenied"), "{story}: {told:#}");
    }
    Ok(())
}
