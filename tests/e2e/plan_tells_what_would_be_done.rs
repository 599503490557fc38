//! `plan -f`: what `run` would do, from files, with no cluster at hand and nothing written.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use world::{ACCOUNT, REGION, Sandbox, Scratch, eventually_ok};

use crate::command::{Ran, manifest, plan, program, run, said};
use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE};

fn deny(sandbox: &Sandbox, actions: &[&str]) -> Result<()> {
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": actions, "Resource": "*"},
    ]});
    let key = sandbox.aws_env().access_key().to_owned();
    sandbox.post("policies", &json!({"accessKey": key, "policy": policy})).map(drop)
}

fn ids(sandbox: &Sandbox, state: &str, profile: Option<&str>) -> Result<String> {
    sandbox.instance(state, profile)
}

/// Nobody wrote anything.
fn only_looked(sandbox: &Sandbox) -> Result<()> {
    let writes: Vec<_> = sandbox.calls_since(0)?.into_iter().filter(world::Call::is_write).collect();
    assert_eq!(writes, []);
    Ok(())
}

#[test]
fn a_fleet_that_is_as_declared_has_nothing_to_do() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let app = sandbox.profile("app")?;
    let carrying: Vec<String> =
        (0..3).map(|_| ids(&sandbox, "running", Some("app"))).collect::<Result<_>>()?;
    let bare = ids(&sandbox, "stopped", None)?;
    let manifests = manifest("by-name", &carrying[0], "{name: app}")
        + &manifest("by-arn", &carrying[1], &format!("{{arn: '{app}'}}"))
        + &manifest("by-role", &carrying[2], "{roleName: app}")
        + &manifest("empty", &bare, "{none: {}}");
    let ran = plan(&sandbox, &manifests)?;
    let rows = ran.rows(0)?;
    assert_eq!(
        said(&rows),
        [
            ["by-arn", "None", "Associated"],
            ["by-name", "None", "Associated"],
            ["by-role", "None", "Associated"],
            ["empty", "None", "Disassociated"],
        ]
    );
    assert_eq!((&rows[0]["from"], &rows[0]["to"]), (&json!(app), &json!(app)));
    assert!(
        ran.told.contains("no InstanceRoleGrant among the manifests, so authorisation is left out"),
        "{ran:?}"
    );
    assert_eq!(ran.told.matches("authorisation").count(), 1, "it is said once: {ran:?}");
    only_looked(&sandbox)
}

#[test]
fn each_change_that_is_due_is_a_row_and_a_stopped_swap_is_two() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let (app, old) = (sandbox.profile("app")?, sandbox.profile("old")?);
    let bare = ids(&sandbox, "running", None)?;
    let running = ids(&sandbox, "running", Some("old"))?;
    let stopped = ids(&sandbox, "stopped", Some("old"))?;
    let emptied = ids(&sandbox, "running", Some("old"))?;
    let missing = "i-0123456789abcdef0";
    let manifests = manifest("a-attach", &bare, "{name: app}")
        + &manifest("b-exchange", &running, "{name: app}")
        + &manifest("c-swap", &stopped, "{roleName: app}")
        + &manifest("d-empty", &emptied, "{none: {}}")
        + &manifest("e-later", missing, "{name: app}");
    let rows = plan(&sandbox, &manifests)?.rows(2)?;
    assert_eq!(
        said(&rows),
        [
            ["a-attach", ASSOCIATE, "Declared"],
            ["b-exchange", REPLACE, "Declared"],
            ["c-swap", DISASSOCIATE, "Declared"],
            ["c-swap", ASSOCIATE, "Declared"],
            ["d-empty", DISASSOCIATE, "Declared"],
            ["e-later", "Wait", "InstanceNotFound"],
        ]
    );
    let ways: Vec<(&Value, &Value)> = rows.iter().map(|row| (&row["from"], &row["to"])).collect();
    let (app, old, none) = (json!(app), json!(old), json!("none"));
    let expected = [(&none, &app), (&old, &app), (&old, &none), (&none, &app), (&old, &none)];
    assert_eq!(&ways[..5], expected);
    assert_eq!(rows[1]["source"], "-:9", "{:#}", rows[1]);
    assert_eq!((&rows[1]["region"], &rows[1]["instanceId"]), (&json!(REGION), &json!(running)));
    only_looked(&sandbox)
}

#[test]
fn what_is_refused_is_told_with_why() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    sandbox.profile("old")?;
    sandbox.add_profile(&json!({"name": "empty", "roleName": null}))?;
    let i: Vec<String> = (0..4).map(|_| ids(&sandbox, "running", None)).collect::<Result<_>>()?;
    let other = ids(&sandbox, "running", Some("old"))?;
    let tags = json!({"kubernetes.io/cluster/prod": "owned"});
    let node = sandbox.add_instances(&json!({"count": 1, "tags": tags}))?.remove(0);
    let managed = sandbox.add_instances(&json!({"count": 1, "managed": true}))?.remove(0);
    let timid = manifest("d-timid", &other, "{name: app}") + "  adoptionPolicy: OnlyIfNone\n";
    let manifests = manifest("a-unknown", &i[0], "{name: nowhere}")
        + &manifest("b-first", &i[1], "{name: app}")
        + &manifest("c-second", &i[1], "{none: {}}")
        + &timid
        + &manifest("e-empty", &i[2], "{name: empty}")
        + &manifest("f-node", &node, "{name: app}")
        + &manifest("g-managed", &managed, "{name: app}");
    let ran = plan(&sandbox, &manifests)?;
    let rows = ran.rows(3)?;
    assert_eq!(
        said(&rows),
        [
            ["a-unknown", "Refuse", "ProfileNotFound"],
            ["b-first", ASSOCIATE, "Declared"],
            ["c-second", "Refuse", "Conflict"],
            ["d-timid", "Refuse", "NotAdopted"],
            ["e-empty", "Refuse", "ProfileWithoutRole"],
            ["f-node", "Refuse", "InstanceProtected"],
            ["g-managed", "Refuse", "InstanceProtected"],
        ]
    );
    let conflict = rows[2]["message"].as_str().unwrap_or_default();
    assert!(
        conflict.contains("binding b-first is older") && conflict.contains("in the order of the files"),
        "{conflict}"
    );
    only_looked(&sandbox)
}

#[test]
fn grants_among_the_manifests_decide_and_labels_of_namespaces_with_them() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let app = sandbox.profile("app")?;
    sandbox.profile("secret")?;
    let tagged = |team: &str| sandbox.add_instances(&json!({"count": 1, "tags": {"team": team}}));
    let (ours, theirs, denied) =
        (tagged("a")?.remove(0), tagged("b")?.remove(0), ids(&sandbox, "running", None)?);
    let grant = format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: team-a, labels: {{team: a}}}}\n\
         ---\napiVersion: instancerole.dev/v1alpha1\nkind: InstanceRoleGrant\nmetadata: {{name: team-a}}\nspec:\n  \
         namespaces: {{selector: {{matchLabels: {{team: a}}}}}}\n  instanceProfiles: ['{app}']\n  instances: {{tags: {{team: a}}}}\n"
    );
    let manifests = manifest("a-ours", &ours, "{name: app}")
        + &manifest("b-theirs", &theirs, "{name: app}")
        + &manifest("c-secret", &denied, "{name: secret}")
        + &grant;
    let ran = plan(&sandbox, &manifests)?;
    let rows = ran.rows(3)?;
    assert_eq!(
        said(&rows),
        [
            ["a-ours", ASSOCIATE, "Declared"],
            ["b-theirs", "Refuse", "NotAuthorized"],
            ["c-secret", "Refuse", "NotAuthorized"],
        ]
    );
    assert!(!ran.told.contains("authorisation is left out"), "{ran:?}");
    assert_eq!(
        (&rows[1]["from"], &rows[1]["to"]),
        (&Value::Null, &Value::Null),
        "nothing is told of others' instances"
    );
    assert_eq!(sandbox.calls_naming(&denied)?, [], "and EC2 is not asked about what nothing covers");
    // Without the label the selector covers nobody.
    let unlabelled = manifests.replace(", labels: {team: a}", "");
    assert_eq!(said(&plan(&sandbox, &unlabelled)?.rows(3)?)[0], ["a-ours", "Refuse", "NotAuthorized"]);
    only_looked(&sandbox)
}

#[test]
fn what_a_binding_or_a_flag_asks_to_be_left_alone_is_no_change() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    let i: Vec<String> = (0..3).map(|_| ids(&sandbox, "running", None)).collect::<Result<_>>()?;
    let manifests = manifest("a", &i[0], "{name: app}")
        + "  mode: Observe\n"
        + &manifest("b", &i[1], "{name: app}")
        + "  suspend: yes\n"
        + &manifest("c", &i[2], "{name: app}");
    let with = |flags: &[&str]| -> Result<Ran> {
        let args = [&["plan", "-f", "-", "-o", "json"], flags].concat();
        run(&mut program(&sandbox.aws_env())?, &args, &manifests)
    };
    let rows = with(&["--default-mode=Observe"])?.rows(0)?;
    assert_eq!(said(&rows), ["a", "b", "c"].map(|name| [name, "None", "ObserveOnly"]));
    assert_eq!(rows[0]["from"], "none", "what would be done is told all the same: {:#}", rows[0]);
    let rows = with(&["--require-instance-tag=managed=yes"])?.rows(3)?;
    assert_eq!(said(&rows)[2], ["c", "Refuse", "NotAuthorized"]);
    sandbox.retag(&i[2], &json!({"managed": "yes"}))?;
    // DescribeInstances is a moment behind.
    eventually_ok("the tag is seen", Duration::from_secs(10), || -> Result<()> {
        let flags = ["--require-instance-tag=managed=yes", "--default-deletion-policy=Retain"];
        let rows = with(&flags)?.rows(3)?;
        ensure!(said(&rows)[2] == ["c", ASSOCIATE, "Declared"], "{rows:#?}");
        Ok(())
    })?;
    let rows = with(&[])?.rows(2)?;
    let expected = [["a", "None", "ObserveOnly"], ["b", "None", "Suspended"], ["c", ASSOCIATE, "Declared"]];
    assert_eq!(said(&rows), expected);
    only_looked(&sandbox)
}

#[test]
fn every_problem_of_a_manifest_names_file_line_and_field_and_hides_no_other_binding() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    let i = ids(&sandbox, "running", None)?;
    let folder = Scratch::new("manifests")?;
    let write = |name: &str, text: &str| fs::write(folder.join(name), text);
    write("a.yaml", &manifest("good", &i, "{name: app}"))?;
    write("b.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n")?;
    write("c.yaml", &manifest("typo", &i, "{name: app}").replace("instanceId", "instanceID"))?;
    write("d.yml", "kind: [\n")?;
    fs::create_dir_all(folder.join("deeper"))?;
    write(
        "deeper/e.json",
        "{\"apiVersion\": \"instancerole.dev/v1alpha1\",\n\t\"kind\": \"InstanceRoleBinding\",\n\t\"metadata\": {\"name\": \"both\"},\n\t\"spec\": {\"instanceId\": \"i-0123456789abcdef0\",\n\t\t\"instanceProfile\": {\"name\": \"a\", \"roleName\": \"a\"}}}\n",
    )?;
    let path = folder.path().display().to_string();
    let ran = run(&mut program(&sandbox.aws_env())?, &["plan", "-o", "json", "-f", &path], "")?;
    let rows = ran.rows(3)?;
    let of = |name: &str| rows.iter().find(|row| row["name"] == name).cloned().unwrap_or_default();
    assert_eq!(of("good")["operation"], ASSOCIATE);
    assert_eq!(of("typo")["operation"], "Refuse");
    for told in [
        format!("{path}/c.yaml:6: spec.instanceID: there is no such field; is instanceId meant?"),
        format!("{path}/c.yaml:6: spec.instanceId: is missing"),
        format!("{path}/d.yml:1: this is no YAML"),
        format!("{path}/deeper/e.json:5: spec.instanceProfile: instanceProfile must have exactly one of"),
        format!("skipped what is not of instancerole.dev: 1 Deployment ({path}/b.yaml:1)"),
    ] {
        assert!(ran.told.contains(&told), "{told}\n{ran:#?}");
    }
    let both = of("both");
    assert_eq!(both["source"], format!("{path}/deeper/e.json:5"));
    assert_eq!(
        (&both["reason"], &both["instanceId"]),
        (&json!("InvalidManifest"), &json!("i-0123456789abcdef0"))
    );
    // Where nothing can be planned AWS is not asked at all.
    let before = sandbox.last_call()?;
    let broken = folder.join("d.yml").display().to_string();
    let ran = run(program(&sandbox.aws_env())?.env("AWS_REGION", ""), &["plan", "-f", &broken], "")?;
    assert_eq!((ran.code, sandbox.last_call()?), (3, before), "{ran:?}");
    Ok(())
}

#[test]
fn what_cannot_be_told_is_exit_code_1_and_names_what_was_in_the_way() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    let i = ids(&sandbox, "running", None)?;
    let manifests = manifest("web", &i, "{name: app}") + &manifest("typo", &i, "{}");
    deny(&sandbox, &["ec2:DescribeInstances"])?;
    let ran = plan(&sandbox, &manifests)?;
    let rows = ran.rows(1)?;
    assert_eq!(said(&rows)[1], ["web", "Refuse", "AccessDenied"]);
    assert!(ran.told.contains("DescribeInstances: AWS answered UnauthorizedOperation"), "{ran:?}");
    sandbox.delete("policies")?;
    deny(&sandbox, &["ec2:DescribeIamInstanceProfileAssociations"])?;
    let ran = plan(&sandbox, &manifests)?;
    ran.rows(1)?;
    assert!(ran.told.contains("DescribeIamInstanceProfileAssociations: AWS answered"), "{ran:?}");
    sandbox.delete("policies")?;
    // Roles can be looked up in IAM only.
    deny(&sandbox, &["iam:*"])?;
    let ran = plan(&sandbox, &manifest("by-role", &i, "{roleName: app}"))?;
    assert_eq!(said(&ran.rows(1)?), [["by-role", "Refuse", "AccessDenied"]]);
    assert!(ran.told.contains("iam:ListInstanceProfilesForRole"), "{ran:?}");
    sandbox.delete("policies")?;
    // Names go without, as they do for run.
    deny(&sandbox, &["iam:*"])?;
    assert_eq!(
        said(&plan(&sandbox, &manifest("web", &i, "{name: app}"))?.rows(2)?),
        [["web", ASSOCIATE, "Declared"]]
    );
    sandbox.delete("policies")?;

    let away = run(
        program(&sandbox.aws_env())?.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        &["plan", "-f", "-"],
        &manifests,
    )?;
    assert_eq!((away.code, away.out.as_str()), (1, ""), "{away:?}");
    assert!(
        away.told.contains("AWS does not say who we are") && away.told.contains("GetCallerIdentity"),
        "{away:?}"
    );
    let nowhere = run(program(&sandbox.aws_env())?.env("AWS_REGION", ""), &["plan", "-f", "-"], &manifests)?;
    assert!(nowhere.code == 1 && nowhere.told.contains("AWS_REGION"), "{nowhere:?}");
    only_looked(&sandbox)
}

#[test]
fn a_read_that_aws_throttles_or_loses_is_made_again() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    let i = ids(&sandbox, "running", None)?;
    for action in ["DescribeInstances", "DescribeIamInstanceProfileAssociations", "GetCallerIdentity"] {
        for effect in [
            json!("throttle"),
            json!("drop"),
            json!({"error": {"code": "Unavailable", "status": 503, "message": "x"}}),
        ] {
            sandbox.fault(&json!({"action": action, "count": 1, "effect": effect}))?;
        }
    }
    let ran = plan(&sandbox, &manifest("web", &i, "{name: app}"))?;
    assert_eq!(said(&ran.rows(2)?), [["web", ASSOCIATE, "Declared"]]);
    Ok(())
}

#[test]
fn wrong_usage_of_plan_does_not_read_as_a_plan() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let command = || program(&sandbox.aws_env());
    for args in [
        &["plan", "--no-such-flag"] as &[&str],
        &["plan", "-o", "xml", "-f", "-"],
        &["plan", "-f", "-", "-A"],
        &["plan", "-f", "/no/such/file"],
        &["plan", "--require-instance-tag=x", "-f", "-"],
    ] {
        let ran = run(&mut command()?, args, "")?;
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{args:?}: {ran:?}");
        assert!(!ran.told.is_empty(), "{args:?}");
    }
    assert_eq!(run(&mut command()?, &["export", "--no-such-flag"], "")?.code, 2);
    let help = run(&mut command()?, &["plan", "--help"], "")?;
    let text = help.printed(0)?;
    assert!(
        text.contains("Exit codes: 0 nothing to do; 2 changes are pending; 3 something is refused"),
        "{text}"
    );
    assert!(text.contains("[env: INSTANCE_ROLE_FILENAME=]"), "{text}");
    Ok(())
}

#[test]
fn the_forms_of_a_plan() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    sandbox.profile("old")?;
    let (bare, running) = (ids(&sandbox, "running", None)?, ids(&sandbox, "running", Some("old"))?);
    let manifests = manifest("web", &bare, "{name: app}") + &manifest("worker", &running, "{name: app}");
    let form =
        |form: &str| run(&mut program(&sandbox.aws_env())?, &["plan", "-f", "-", "-o", form], &manifests);
    let table = form("table")?;
    let text = table.printed(2)?;
    assert!(text.contains("team-a     worker  eu-west-1"), "{text}");
    assert!(text.ends_with("\nPlan: 1 to associate, 1 to replace.\n") && !text.contains('\u{1b}'), "{text}");
    let json: Value = serde_json::from_str(form("json")?.printed(2)?)?;
    let yaml: Value = serde_yaml::from_str(form("yaml")?.printed(2)?)?;
    assert_eq!(json, yaml);
    let fields: Vec<&String> = json[0].as_object().map(|row| row.keys().collect()).unwrap_or_default();
    assert_eq!(
        fields,
        [
            "from",
            "instanceId",
            "message",
            "name",
            "namespace",
            "operation",
            "reason",
            "region",
            "source",
            "to"
        ]
    );
    let markdown = form("markdown")?;
    let text = markdown.printed(2)?;
    assert!(text.starts_with("### Instance profiles: 1 to associate, 1 to replace\n"), "{text}");
    assert!(
        text.contains(&format!("| `{running}`<br>`{REGION}` | `{REPLACE}` | `old` | `app` | `Declared` |")),
        "{text}"
    );
    Ok(())
}

#[test]
fn settings_come_from_the_environment_too_and_a_flag_wins() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    let i = ids(&sandbox, "running", Some("app"))?;
    let folder = Scratch::new("manifests")?;
    fs::write(
        folder.join("web.yaml"),
        manifest("web", &i, "{name: app}").replace(", namespace: team-a", ""),
    )?;
    let ran = run(
        program(&sandbox.aws_env())?
            .env("INSTANCE_ROLE_FILENAME", folder.path())
            .env("INSTANCE_ROLE_OUTPUT", "table")
            .env("INSTANCE_ROLE_NAMESPACE", "elsewhere"),
        &["plan", "-o", "json"],
        "",
    )?;
    let rows = ran.rows(0)?;
    assert_eq!((&rows[0]["namespace"], &rows[0]["name"]), (&json!("elsewhere"), &json!("web")));
    Ok(())
}

#[test]
fn instances_of_other_regions_are_looked_for_there() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    let there = "eu-central-1";
    let arn = format!("arn:aws:iam::{ACCOUNT}:instance-profile/app");
    let i = sandbox.add_instances(&json!({"count": 1, "region": there, "profile": arn}))?.remove(0);
    let manifests = manifest("here", &i, "{name: app}")
        + &manifest("there", &i, "{name: app}")
        + &format!("  region: {there}\n");
    let rows = plan(&sandbox, &manifests)?.rows(2)?;
    assert_eq!(said(&rows), [["here", "Wait", "InstanceNotFound"], ["there", "None", "Associated"]]);
    assert_eq!(rows[1]["region"], there);
    Ok(())
}

#[test]
fn ten_thousand_manifests_take_ten_pages() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    sandbox.profile("old")?;
    let fleet = sandbox.add_instances(&json!({"count": 9_950, "profile": "app"}))?;
    let due = sandbox.add_instances(&json!({"count": 50, "profile": "old"}))?;
    let folder = Scratch::new("manifests")?;
    let all: Vec<&String> = fleet.iter().chain(&due).collect();
    for (nth, part) in all.chunks(2_500).enumerate() {
        let text: String = part
            .iter()
            .enumerate()
            .map(|(n, id)| manifest(&format!("b-{nth}-{n}"), id, "{name: app}"))
            .collect();
        fs::write(folder.join(&format!("{nth}.yaml")), text)?;
    }
    let path = folder.path().display().to_string();
    let ran = run(&mut program(&sandbox.aws_env())?, &["plan", "-o", "json", "-f", &path], "")?;
    let rows = ran.rows(2)?;
    assert_eq!(rows.len(), 10_000);
    assert_eq!(rows.iter().filter(|row| row["operation"] == REPLACE).count(), 50);
    let mut calls = std::collections::BTreeMap::new();
    for call in sandbox.calls_since(0)? {
        *calls.entry(call.action).or_insert(0) += 1;
    }
    // One, but for a machine so busy that not all fifty ask within the same moment.
    let looks = calls.remove("DescribeInstances").unwrap_or(0);
    assert!((1..=5).contains(&looks), "state and tags are read together: {looks} calls for fifty");
    let expected = [
        ("DescribeIamInstanceProfileAssociations".to_owned(), 10),
        ("GetCallerIdentity".to_owned(), 1),
        ("ListInstanceProfiles".to_owned(), 1),
    ];
    assert_eq!(calls, expected.into(), "state and tags are read only of those that are about to change");
    Ok(())
}

#[test]
fn few_manifests_in_a_large_region_are_asked_for_by_id() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    sandbox.add_instances(&json!({"count": 5_000, "profile": "app"}))?;
    let ours = sandbox.add_instances(&json!({"count": 150, "profile": "app"}))?;
    let text: String =
        ours.iter().enumerate().map(|(n, id)| manifest(&format!("b-{n}"), id, "{name: app}")).collect();
    assert_eq!(plan(&sandbox, &text)?.rows(0)?.len(), 150);
    let looks = sandbox.calls_since(0)?;
    let looks = looks.iter().filter(|call| call.action == "DescribeIamInstanceProfileAssociations").count();
    assert_eq!(looks, 1);
    Ok(())
}

#[test]
fn a_thousand_profiles_that_do_not_exist_are_told_by_one_listing() -> Result<()> {
    let sandbox = Sandbox::start()?;
    sandbox.profile("app")?;
    let fleet = sandbox.add_instances(&json!({"count": 1_000}))?;
    let name = |n: usize| if n == 0 { "{name: app}".to_owned() } else { format!("{{name: missing-{n}}}") };
    let text: String =
        fleet.iter().enumerate().map(|(n, id)| manifest(&format!("b-{n}"), id, &name(n))).collect();
    let rows = plan(&sandbox, &text)?.rows(3)?;
    assert_eq!(rows.iter().filter(|row| row["reason"] == "ProfileNotFound").count(), 999);
    let calls = sandbox.calls_since(0)?;
    let asked = |action: &str| calls.iter().filter(|call| call.action == action).count();
    assert_eq!((asked("ListInstanceProfiles"), asked("GetInstanceProfile")), (1, 0));
    Ok(())
}

#[test]
fn a_grant_of_another_account_is_acted_by_as_run_would() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let (other, role) = ("210987654321", "arn:aws:iam::210987654321:role/target");
    sandbox.post(
        "roles",
        &json!({"account": other, "region": REGION, "name": "target", "trustedAccounts": [ACCOUNT]}),
    )?;
    sandbox.post("profiles", &json!({"account": other, "region": REGION, "name": "app"}))?;
    let made = sandbox.post("instances", &json!({"account": other, "region": REGION, "count": 1}))?;
    let i = made["instanceIds"][0].as_str().unwrap_or_default().to_owned();
    let grant = |role: &str| {
        format!(
            "---\napiVersion: instancerole.dev/v1alpha1\nkind: InstanceRoleGrant\nmetadata: {{name: other}}\nspec:\n  \
             namespaces: {{names: [team-a]}}\n  instanceProfiles: ['arn:aws:iam::{other}:instance-profile/*']\n  \
             instances: {{ids: [{i}]}}\n  aws: {{assumeRoleArn: '{role}'}}\n"
        )
    };
    let web = manifest("web", &i, "{name: app}");
    let rows = plan(&sandbox, &(grant(role) + &web))?.rows(2)?;
    assert_eq!(said(&rows), [["web", ASSOCIATE, "Declared"]]);
    assert_eq!(rows[0]["to"], format!("arn:aws:iam::{other}:instance-profile/app"));
    // A role that cannot be assumed is named, and nothing is concluded.
    let closed = plan(&sandbox, &(grant("arn:aws:iam::210987654321:role/closed") + &web))?;
    assert_eq!(said(&closed.rows(1)?)[0][2], "RoleNotAssumable");
    assert!(closed.told.contains("role/closed cannot be assumed"), "{closed:?}");
    only_looked(&sandbox)
}
