//! Bad manifests are refused by the API server alone, with words that name the field and the form expected.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::World;

use crate::stage::scenario;

/// One manifest and the words of its refusal.
struct Bad {
    story: &'static str,
    spec: Value,
    words: &'static [&'static str],
}

fn bad(story: &'static str, spec: Value, words: &'static [&'static str]) -> Bad {
    Bad { story, spec, words }
}

/// Applies all in one go, as a person would, and looks at what is said of each.
fn are_refused(kind: &str, namespace: Option<&str>, manifests: Vec<Bad>) -> Result<()> {
    let kubectl = World::shared()?.control_plane().admin();
    let objects = manifests.iter().enumerate().map(|(n, bad)| object(kind, namespace, n, &bad.spec));
    let output = kubectl.output(&["apply", "--dry-run=server", "-f", "-"], Some(&documents(objects)?))?;
    let (accepted, told) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr).into_owned());
    let mut wrong = Vec::new();
    for (n, Bad { story, words, .. }) in manifests.iter().enumerate() {
        let name = name(n);
        if accepted.contains(&name) {
            wrong.push(format!("{story}: it was accepted"));
            continue;
        }
        // Each refusal is told on a line of its own.
        let begin = format!("{kind}.instancerole.dev \"{name}\" is invalid");
        let of = told.lines().find(|line| line.contains(&begin));
        match of {
            None => wrong.push(format!("{story}: nothing is said of {name}")),
            Some(said) => {
                for word in words.iter().filter(|word| !said.contains(**word)) {
                    wrong.push(format!("{story}: no `{word}` in: {said}"));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{}\n\nall that was said:\n{told}", wrong.join("\n"));
    Ok(())
}

fn are_accepted(kind: &str, namespace: Option<&str>, manifests: Vec<(&str, Value)>) -> Result<()> {
    let kubectl = World::shared()?.control_plane().admin();
    let objects = manifests.iter().enumerate().map(|(n, (_, spec))| object(kind, namespace, n, spec));
    let output = kubectl.output(&["apply", "--dry-run=server", "-f", "-"], Some(&documents(objects)?))?;
    let (accepted, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for (n, (story, _)) in manifests.iter().enumerate() {
        ensure!(accepted.contains(&format!("{} created", name(n))), "{story} was refused: {told}");
    }
    Ok(())
}

fn name(n: usize) -> String {
    format!("case-{n:02}")
}

fn object(kind: &str, namespace: Option<&str>, n: usize, spec: &Value) -> Value {
    json!({
        "apiVersion": "instancerole.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name(n), "namespace": namespace},
        "spec": spec,
    })
}

fn documents(objects: impl Iterator<Item = Value>) -> Result<String> {
    let documents: Result<Vec<String>, _> = objects.map(|object| serde_yaml::to_string(&object)).collect();
    Ok(documents?.join("---\n"))
}

const I: &str = "i-0123456789abcdef0";
const ONE_OF: &[&str] =
    &["spec.instanceProfile", "exactly one of name, arn, roleName and none", "for no role write `none: {}`"];
const ID: &[&str] = &["spec.instanceId", "8 or 17 lower-case hexadecimal digits"];
const NAME: &[&str] =
    &["spec.instanceProfile.name", "no ARN (use arn), no path or slash (use arn), no wildcard"];
const ARN: &[&str] = &["spec.instanceProfile.arn", "arn:aws:iam::123456789012:instance-profile/path/name"];

fn profile(choice: Value) -> Value {
    json!({"instanceId": I, "instanceProfile": choice})
}

fn arn(arn: &str) -> Value {
    profile(json!({"arn": arn}))
}

fn id(id: &str) -> Value {
    json!({"instanceId": id, "instanceProfile": {"name": "app"}})
}

fn with(member: &str, value: Value) -> Value {
    let mut spec = profile(json!({"name": "app"}));
    spec[member] = value;
    spec
}

#[test]
fn bindings_that_cannot_be_meant() -> Result<()> {
    let s = scenario("refused")?;
    are_refused(
        "InstanceRoleBinding",
        Some(s.namespace()),
        vec![
            bad(
                "no instance id",
                json!({"instanceProfile": {"name": "app"}}),
                &["spec.instanceId: Required"],
            ),
            bad("an id in capitals", id("i-0123456789ABCDEF0"), ID),
            bad("an id of nine digits", id("i-012345678"), ID),
            bad("an id without its i-", id("0123456789abcdef0"), ID),
            bad("a node of Systems Manager", id("mi-0123456789abcdef0"), &["spec.instanceId"]),
            bad("an empty id", id(""), ID),
            bad("a wildcard for the id", id("i-*"), ID),
            bad("no profile at all", json!({"instanceId": I}), &["spec.instanceProfile: Required"]),
            bad("an empty choice", profile(json!({})), ONE_OF),
            bad(
                "name and arn",
                profile(json!({"name": "a", "arn": "arn:aws:iam::123456789012:instance-profile/a"})),
                ONE_OF,
            ),
            bad("name and roleName", profile(json!({"name": "a", "roleName": "a"})), ONE_OF),
            bad("name and none", profile(json!({"name": "a", "none": {}})), ONE_OF),
            bad("a bare `none:`, which is null", profile(json!({"none": null})), ONE_OF),
            bad("none: true", profile(json!({"none": true})), &["spec.instanceProfile.none", "object"]),
            bad(
                "a role's ARN",
                arn("arn:aws:iam::123456789012:role/app"),
                &["spec.instanceProfile.arn", "not of a role (use roleName)"],
            ),
            bad("an ARN with a wildcard", arn("arn:aws:iam::123456789012:instance-profile/*"), ARN),
            bad(
                "an ARN with a wildcard in its path",
                arn("arn:aws:iam::123456789012:instance-profile/a*/b"),
                ARN,
            ),
            bad("an ARN without account", arn("arn:aws:iam:::instance-profile/app"), ARN),
            bad("a name where the ARN stands", arn("app"), ARN),
            bad(
                "an ARN as the name",
                profile(json!({"name": "arn:aws:iam::123456789012:instance-profile/app"})),
                NAME,
            ),
            bad("a name with a slash", profile(json!({"name": "team/app"})), NAME),
            bad("a wildcard as the name", profile(json!({"name": "app-*"})), NAME),
            bad("an empty name", profile(json!({"name": ""})), &["spec.instanceProfile.name"]),
            bad(
                "a name of 129",
                profile(json!({"name": "a".repeat(129)})),
                &["spec.instanceProfile.name", "128"],
            ),
            bad(
                "a role's ARN as its name",
                profile(json!({"roleName": "arn:aws:iam::123456789012:role/app"})),
                &["spec.instanceProfile.roleName", "no ARN, no path or slash, no wildcard"],
            ),
            bad(
                "a role name of 65",
                profile(json!({"roleName": "a".repeat(65)})),
                &["spec.instanceProfile.roleName", "64"],
            ),
            bad("a Region that is a zone", with("region", json!("eu-west-1a")), &["spec.region"]),
            bad("another mode", with("mode", json!("enforce")), &["spec.mode", "\"Enforce\", \"Observe\""]),
            bad(
                "another adoptionPolicy",
                with("adoptionPolicy", json!("Never")),
                &["spec.adoptionPolicy", "\"Replace\", \"OnlyIfNone\""],
            ),
            bad(
                "another whenStopped",
                with("whenStopped", json!("Wait")),
                &["spec.whenStopped", "\"DetachThenAttach\", \"WaitForRunning\""],
            ),
            bad(
                "another deletionPolicy",
                with("deletionPolicy", json!("Delete")),
                &["spec.deletionPolicy", "\"Detach\", \"Retain\", \"Restore\""],
            ),
            bad("suspend in words", with("suspend", json!("soon")), &["spec.suspend", "boolean"]),
            bad(
                "none with OnlyIfNone",
                json!({"instanceId": I, "instanceProfile": {"none": {}}, "adoptionPolicy": "OnlyIfNone"}),
                &["spec.adoptionPolicy", "OnlyIfNone cannot go with instanceProfile.none"],
            ),
        ],
    )
}

#[test]
fn a_field_that_does_not_exist() -> Result<()> {
    let s = scenario("unknown-field")?;
    let api = s.world().control_plane().admin();
    for (spec, field) in [
        (with("instanceProfileName", json!("app")), "spec.instanceProfileName"),
        (profile(json!({"name": "app", "path": "/a/"})), "spec.instanceProfile.path"),
        (profile(json!({"none": {"really": true}})), "spec.instanceProfile.none.really"),
    ] {
        let object = object("InstanceRoleBinding", Some(s.namespace()), 0, &spec);
        let refused = api.apply(&serde_yaml::to_string(&object)?).err().context(field)?.to_string();
        assert!(refused.contains(&format!("unknown field \"{field}\"")), "{refused}");
    }
    Ok(())
}

#[test]
fn bindings_of_all_partitions_and_forms() -> Result<()> {
    let s = scenario("accepted")?;
    are_accepted(
        "InstanceRoleBinding",
        Some(s.namespace()),
        vec![
            ("China", arn("arn:aws-cn:iam::123456789012:instance-profile/app")),
            ("GovCloud", arn("arn:aws-us-gov:iam::123456789012:instance-profile/app")),
            ("a path", arn("arn:aws:iam::123456789012:instance-profile/team/a/app")),
            ("every character of a name", profile(json!({"name": "aZ09_+=,.@-"}))),
            ("a name of 128", profile(json!({"name": "a".repeat(128)}))),
            ("an old id", id("i-1a2b3c4d")),
            ("a role", profile(json!({"roleName": "app"}))),
            ("no role", profile(json!({"none": {}}))),
            ("a Region in China", with("region", json!("cn-north-1"))),
            ("a Region of GovCloud", with("region", json!("us-gov-west-1"))),
            (
                "everything at once",
                json!({
                    "instanceId": I, "region": "eu-west-1", "instanceProfile": {"name": "app"}, "mode": "Observe",
                    "adoptionPolicy": "OnlyIfNone", "whenStopped": "WaitForRunning", "deletionPolicy": "Restore",
                    "suspend": true,
                }),
            ),
        ],
    )
}

#[test]
fn what_a_binding_is_about_cannot_be_changed() -> Result<()> {
    let s = scenario("immutable")?;
    let spec = |name: &str, region: Option<&str>| {
        let mut spec = json!({"instanceId": I, "instanceProfile": {"name": name}, "suspend": true});
        if let Some(region) = region {
            spec["region"] = json!(region);
        }
        spec
    };
    s.apply("here", &spec("app", None))?;
    s.apply("there", &spec("app", Some("eu-west-1")))?;
    let patch = |binding: &str, patch: Value| -> Result<String> {
        let namespace = format!("--namespace={}", s.namespace());
        let spec = json!({"spec": patch}).to_string();
        let args = ["patch", "irb", binding, &namespace, "--type=merge", "-p", &spec];
        let output = s.world().control_plane().kubectl(&args)?;
        ensure!(!output.status.success(), "{binding} {spec} was accepted");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let said = patch("here", json!({"instanceId": "i-0123456789abcdef1"}))?;
    assert!(said.contains("spec.instanceId") && said.contains("instanceId is immutable"), "{said}");
    for (story, binding, change) in [
        ("added", "here", json!({"region": "eu-west-1"})),
        ("changed", "there", json!({"region": "eu-central-1"})),
        ("removed", "there", json!({"region": null})),
    ] {
        let said = patch(binding, change)?;
        assert!(
            said.contains("spec.region") && said.contains("neither changed, added nor removed"),
            "{story}: {said}"
        );
    }
    Ok(())
}

fn grant(member: &str, value: Value) -> Value {
    let mut spec = json!({
        "namespaces": {"names": ["team-a"]},
        "instanceProfiles": ["arn:aws:iam::123456789012:instance-profile/team-a/*"],
        "instances": {"tags": {"team": "a"}},
    });
    spec[member] = value;
    spec
}

fn grant_without(member: &str) -> Value {
    let mut spec = grant("allowNone", json!(true));
    spec.as_object_mut().map(|spec| spec.remove(member));
    spec
}

const PROFILES: &[&str] = &["spec.instanceProfiles", "a bare `*` and the ARN of a role are refused"];
const INSTANCES: &[&str] = &["spec.instances", "at least one of regions, tags and ids"];

#[test]
fn grants_that_give_too_much_or_nothing() -> Result<()> {
    are_refused(
        "InstanceRoleGrant",
        None,
        vec![
            bad("a bare *", grant("instanceProfiles", json!(["*"])), PROFILES),
            bad("a name with a wildcard", grant("instanceProfiles", json!(["app-*"])), PROFILES),
            bad(
                "a role's ARN",
                grant("instanceProfiles", json!(["arn:aws:iam::123456789012:role/app"])),
                PROFILES,
            ),
            bad(
                "a wildcard for the account",
                grant("instanceProfiles", json!(["arn:aws:iam::*:instance-profile/app"])),
                PROFILES,
            ),
            bad(
                "a wildcard not after a slash",
                grant("instanceProfiles", json!(["arn:aws:iam::123456789012:instance-profile/app-*"])),
                &["spec.instanceProfiles"],
            ),
            bad("no profile", grant("instanceProfiles", json!([])), &["spec.instanceProfiles", "at least 1"]),
            bad("profiles left out", grant_without("instanceProfiles"), &["spec.instanceProfiles: Required"]),
            bad("instances left out", grant_without("instances"), &["spec.instances: Required"]),
            bad("no instances", grant("instances", json!({})), INSTANCES),
            bad(
                "no Region",
                grant("instances", json!({"regions": []})),
                &["spec.instances.regions", "at least 1"],
            ),
            bad("no tag", grant("instances", json!({"tags": {}})), &["spec.instances.tags", "at least 1"]),
            bad("no id", grant("instances", json!({"ids": []})), &["spec.instances.ids", "at least 1"]),
            bad("an id that is none", grant("instances", json!({"ids": ["i-*"]})), &["spec.instances.ids"]),
            bad("namespaces left out", grant_without("namespaces"), &["spec.namespaces: Required"]),
            bad(
                "no namespaces",
                grant("namespaces", json!({})),
                &["spec.namespaces", "for all namespaces write `selector: {}`"],
            ),
            bad(
                "an empty list of namespaces",
                grant("namespaces", json!({"names": []})),
                &["spec.namespaces.names", "at least 1"],
            ),
            bad(
                "a wildcard for namespaces",
                grant("namespaces", json!({"names": ["*"]})),
                &["spec.namespaces.names"],
            ),
            bad(
                "no labels",
                grant("namespaces", json!({"selector": {"matchLabels": {}}})),
                &["spec.namespaces.selector.matchLabels", "at least 1"],
            ),
            bad("no bindings at all", grant("maxBindings", json!(0)), &["spec.maxBindings"]),
        ],
    )
}

#[test]
fn grants_as_they_are_meant() -> Result<()> {
    are_accepted(
        "InstanceRoleGrant",
        None,
        vec![
            ("by tag", grant("allowNone", json!(false))),
            ("all namespaces", grant("namespaces", json!({"selector": {}}))),
            ("by label", grant("namespaces", json!({"selector": {"matchLabels": {"team": "a"}}}))),
            ("by name", grant("instanceProfiles", json!(["app"]))),
            (
                "a whole account",
                grant("instanceProfiles", json!(["arn:aws-cn:iam::123456789012:instance-profile/*"])),
            ),
            ("by Region", grant("instances", json!({"regions": ["eu-west-1"]}))),
            ("by id", grant("instances", json!({"ids": [I]}))),
        ],
    )
}
