//! Words that are meant to be taken for something else: refused by the API server, or taken for what they are.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use world::Scenario;

use crate::grants::{Rights, allowing, stranger, with};
use crate::stage::{ASSOCIATE, DISASSOCIATE, REQUESTED_AT, Story, is_held, world};

const I: &str = "i-0123456789abcdef0";

/// What a log, a terminal, a parser or a shell could stumble over.
fn hostile() -> Vec<(&'static str, String)> {
    vec![
        ("a forged log line", "app\n{\"level\":\"INFO\",\"message\":\"all is well\"}".into()),
        ("a return", "app\rREADY".into()),
        ("a null", "app\u{0}".into()),
        ("an escape sequence", "\u{1b}[2Japp".into()),
        ("a line separator", "app\u{2028}".into()),
        ("right to left", "app\u{202e}nimda".into()),
        ("a letter that looks like another", "\u{0430}pp".into()),
        ("a combining sign", "app\u{0301}".into()),
        ("a space before", " app".into()),
        ("a space behind", "app ".into()),
        ("up the path", "../app".into()),
        ("a wildcard", "ap*".into()),
        ("one letter's wildcard", "ap?".into()),
        ("a policy variable", "${aws:username}".into()),
        ("a format", "{}%s%n{0}".into()),
        ("a shell", "$(reboot)`reboot`;reboot|reboot".into()),
        ("another parameter", "app&Action=TerminateInstances".into()),
        ("markup", "<b>app</b>".into()),
        ("quotes", "\"'app".into()),
        ("too long", "a".repeat(2000)),
        ("far too long", "a".repeat(200_000)),
    ]
}

fn is_refused(api: &world::Api, list: &str, object: &Value, what: &str) -> Result<()> {
    let answer = api.create(&format!("{list}?dryRun=All"), object);
    ensure!(answer.is_err(), "{what} was taken");
    let words = format!("{:#}", answer.err().map_or_else(String::new, |error| format!("{error:#}")));
    ensure!(
        words.contains("Invalid") || words.contains("invalid") || words.contains("422"),
        "{what}: {words}"
    );
    Ok(())
}

#[test]
fn fields_of_a_binding_take_no_hostile_words() -> Result<()> {
    let s = stranger("words")?;
    let api = s.world().control_plane().api();
    let path = s.path("");
    for (story, word) in hostile() {
        let fine = json!({"instanceId": I, "instanceProfile": {"name": "app"}});
        let arn = format!("arn:aws:iam::123456789012:instance-profile/{word}");
        let specs = [
            ("instanceId", with(fine.clone(), "instanceId", json!(format!("{I}{word}")))),
            ("region", with(fine.clone(), "region", json!(format!("eu-west-1{word}")))),
            ("mode", with(fine.clone(), "mode", json!(word))),
            ("name", with(fine.clone(), "instanceProfile", json!({"name": word}))),
            ("roleName", with(fine.clone(), "instanceProfile", json!({"roleName": word}))),
            ("arn", with(fine.clone(), "instanceProfile", json!({"arn": arn}))),
        ];
        for (field, spec) in specs {
            // `../app` is a path like any other, if an odd one: IAM allows every printable sign there, and means it as
            // it stands.
            if field == "arn" && matches!(story, "up the path" | "a shell" | "markup") {
                continue;
            }
            let object = json!({"apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding",
                "metadata": {"name": "words"}, "spec": spec});
            is_refused(api, path.trim_end_matches('/'), &object, &format!("{story} in {field}"))?;
        }
    }
    Ok(())
}

#[test]
fn fields_of_a_grant_take_no_hostile_words() -> Result<()> {
    let s = stranger("grant-words")?;
    let api = s.world().control_plane().api();
    let list = "/apis/instancerole.dev/v1alpha1/instancerolegrants";
    for (story, word) in hostile() {
        let fine = allowing(&["app"]);
        let role = |arn: &str, id: &str| json!({"assumeRoleArn": arn, "externalId": id});
        let good_role = "arn:aws:iam::123456789012:role/app";
        let specs = [
            ("namespaces.names", with(fine.clone(), "namespaces", json!({"names": [word]}))),
            ("instanceProfiles", with(fine.clone(), "instanceProfiles", json!([word]))),
            ("regions", with(fine.clone(), "instances", json!({"regions": [format!("eu-west-1{word}")]}))),
            ("ids", with(fine.clone(), "instances", json!({"ids": [format!("{I}{word}")]}))),
            ("assumeRoleArn", with(fine.clone(), "aws", role(&format!("{good_role}{word}"), "id"))),
            ("externalId", with(fine.clone(), "aws", role(good_role, &format!("id{word}")))),
        ];
        for (field, mut spec) in specs {
            if field == "externalId" && matches!(story, "up the path" | "too long") {
                continue; // signs that STS allows, and a length
            }
            if field == "assumeRoleArn" && story == "up the path" {
                continue;
            }
            if spec.get("namespaces").is_none() {
                spec["namespaces"] = json!({"names": ["team-a"]});
            }
            let object = json!({"apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleGrant",
                "metadata": {"name": "words"}, "spec": spec});
            is_refused(api, list, &object, &format!("{story} in {field}"))?;
        }
    }
    Ok(())
}

/// Whether the log is still one JSON object in each line, all of them the controller's own.
fn log_is_whole(s: &Scenario<'_>) -> Result<()> {
    let lines = s.world().controller()?.log()?;
    for line in &lines {
        ensure!(line.is_object() && line["level"].is_string(), "{line}");
        ensure!(line["message"] != "all is well" && line["fields"]["message"] != "all is well", "{line}");
    }
    Ok(())
}

#[test]
fn tags_and_labels_mean_what_they_say() -> Result<()> {
    let s = stranger("tag-words")?;
    s.sandbox().profile("tag-words-app")?;
    let profile = json!({"name": "tag-words-app"});
    // Signs that EC2 takes in a tag, and no longer than it takes: of control characters its XML could carry but a few.
    let taken = |word: &str| word.len() < 200 && !word.chars().any(char::is_control);
    let words: Vec<(&str, String)> = hostile().into_iter().filter(|(_, word)| taken(word)).collect();
    let mut instances = Vec::new();
    for (n, (_, word)) in words.iter().enumerate() {
        let (own, plain) = (
            s.sandbox().add_instances(&json!({"count": 1, "tags": {"owner": word}}))?.remove(0),
            s.sandbox().add_instances(&json!({"count": 1, "tags": {"owner": "app"}}))?.remove(0),
        );
        s.grant(
            &format!("words-{n}"),
            &with(allowing(&["tag-words-app"]), "instances", json!({"tags": {"owner": word}})),
        )?;
        s.bind(&format!("own-{n}"), &own, &profile)?;
        s.bind(&format!("plain-{n}"), &plain, &profile)?;
        instances.push((own, plain));
    }
    for (n, (own, plain)) in instances.iter().enumerate() {
        let story = words[n].0;
        s.is_carried_out(&format!("own-{n}"))?;
        assert_eq!(s.writes(own)?, [ASSOCIATE], "{story}");
        s.is_refused(&format!("plain-{n}"))?;
        assert_eq!(s.writes(plain)?, [""; 0], "{story} is not `app`, nor a pattern");
    }
    // Selectors of labels that no namespace can have cover none.
    let never = [
        json!({"matchLabels": {"team\nx": "a"}}),
        json!({"matchLabels": {"kubernetes.io/metadata.name": "*"}}),
        json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["*", ".*", ""]}]}),
        json!({"matchExpressions": [{"key": "\u{1b}[2J", "operator": "Exists"}]}),
    ];
    let i = s.sandbox().instance("running", None)?;
    for (n, selector) in never.iter().enumerate() {
        let spec = with(allowing(&["tag-words-app"]), "namespaces", json!({"selector": selector}));
        // The API server may refuse it as well.
        drop(s.grant(&format!("never-{n}"), &spec));
    }
    s.bind("never", &i, &profile)?;
    s.is_refused("never")?;
    log_is_whole(&s)
}

#[test]
fn annotations_as_large_as_they_get() -> Result<()> {
    let s = stranger("large")?;
    s.sandbox().profile("large-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.grant("own", &allowing(&["large-app"]))?;
    s.bind("web", &i, &json!({"name": "large-app"}))?;
    s.is_carried_out("web")?;
    let megabyte = s.annotate("web", "example.com/note", &"x".repeat(1 << 20));
    assert!(megabyte.is_err(), "the API server has a limit of its own");
    s.annotate("web", "example.com/note", &"\u{202e}x\n".repeat(30_000))?;
    // Whoever asks for a look may do so in any words, and gets that look; how much of them is echoed is another matter.
    for (n, value) in [
        "now\n{\"level\":\"INFO\",\"message\":\"all is well\"}".to_owned(),
        "\u{1b}[2J\u{0430}".to_owned(),
        "x".repeat(50_000),
    ]
    .iter()
    .enumerate()
    {
        let since = s.sandbox().last_call()?;
        s.annotate("web", REQUESTED_AT, value)?;
        s.patiently("web", &format!("handles request {n}"), |found| {
            let echo = found["status"]["lastHandledRequestedAt"].as_str().unwrap_or_default();
            !echo.is_empty() && value.starts_with(&echo[..echo.len().min(8)])
        })?;
        let looked = s
            .sandbox()
            .calls_since(since)?
            .into_iter()
            .any(|call| call.params.values().any(|value| value.as_str() == Some(i.as_str())));
        assert!(looked, "request {n}");
    }
    let j = s.sandbox().instance("running", None)?;
    s.bind("other", &j, &json!({"name": "large-app"}))?;
    s.is_carried_out("other")?;
    s.delete("web")?;
    s.vanishes("web")?;
    log_is_whole(&s)
}

#[test]
fn a_namespace_with_a_date_that_is_none_stops_nobody() -> Result<()> {
    let hostile = stranger("dated")?;
    let api = hostile.world().control_plane().api();
    let fields = json!([{"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:dated": {}}}}, "time": "9999-12-31T23:59:59Z"}]);
    let patch = json!({"metadata": {"labels": {"dated": "yes"}, "managedFields": fields}});
    let namespace = format!("/api/v1/namespaces/{}", hostile.namespace());
    let patched = api.merge(&namespace, &patch)?;
    let kept = patched["metadata"]["managedFields"].to_string();
    assert!(kept.contains("9999-12-31"), "the API server keeps it: {kept}");
    // Whoever starts afterwards lists all namespaces, that one among them.
    let other = world(&[])?;
    let s = other.scenario("undated")?;
    s.sandbox().profile("app")?;
    let i = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "app"}))?;
    s.is_carried_out("web")?;
    Ok(())
}

#[test]
fn finalizers_of_others_as_many_as_they_like() -> Result<()> {
    let s = stranger("held")?;
    s.sandbox().profile("held-app")?;
    let i = s.sandbox().instance("running", None)?;
    s.grant("own", &allowing(&["held-app"]))?;
    s.bind("web", &i, &json!({"name": "held-app"}))?;
    s.is_carried_out("web")?;
    let api = s.world().control_plane().api();
    let mut finalizers: Vec<String> = (0..500).map(|n| format!("example.com/no-{n:03}")).collect();
    let foreign = finalizers.clone();
    finalizers.insert(250, "instancerole.dev/association".to_owned());
    api.merge(&s.path("web"), &json!({"metadata": {"finalizers": finalizers}}))?;
    s.delete("web")?;
    let left = s.patiently("web", "is let go by us alone", |found| !is_held(found))?;
    assert_eq!(left["metadata"]["finalizers"], json!(foreign), "those of others are as they were");
    assert_eq!(s.writes(&i)?, [ASSOCIATE, DISASSOCIATE]);
    api.merge(&s.path("web"), &json!({"metadata": {"finalizers": null}}))?;
    s.vanishes("web")
}

#[test]
fn the_largest_grant_that_the_api_server_takes() -> Result<()> {
    let s = stranger("largest")?;
    s.sandbox().profile("largest-app")?;
    let i = s.sandbox().instance("running", None)?;
    let mut names: Vec<String> = (0..499).map(|n| format!("team-{n:03}-{}", "x".repeat(54))).collect();
    names.push(s.namespace().to_owned());
    let mut ids: Vec<String> = (0..999).map(|n| format!("i-0{n:016x}")).collect();
    ids.push(i.clone());
    let long = "p".repeat(100);
    let mut profiles: Vec<String> =
        (0..99).map(|n| format!("arn:aws:iam::123456789012:instance-profile/{long}/{long}/{n}/*")).collect();
    profiles.push("arn:aws:iam::123456789012:instance-profile/largest-app".into());
    let spec =
        json!({"namespaces": {"names": names}, "instanceProfiles": profiles, "instances": {"ids": ids}});
    s.grant("all", &spec)?;
    s.bind("web", &i, &json!({"name": "largest-app"}))?;
    s.is_carried_out("web")?;
    assert_eq!(s.writes(&i)?, [ASSOCIATE]);
    Ok(())
}

#[test]
fn names_as_long_as_they_get() -> Result<()> {
    let s = stranger("long-names")?;
    let profile = "p".repeat(128);
    s.sandbox().add_profile(&json!({"name": profile, "roleName": "r".repeat(64)}))?;
    let i = s.sandbox().instance("running", None)?;
    let binding = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
    assert_eq!(binding.len(), 253);
    let grant = format!("{}.{}.{}.{}", "g".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
    let spec = json!({"namespaces": {"names": [s.namespace()]}, "instanceProfiles": [profile],
        "instances": {"ids": [i]}});
    s.world().grant(&grant, &spec)?;
    s.bind(&binding, &i, &json!({"roleName": "r".repeat(64)}))?;
    let found = s.is_carried_out(&binding)?;
    assert_eq!(found["status"]["grant"], grant);
    // Its Events would have longer names than the API server takes (their names begin with the binding's): that they
    // cannot be written fails nothing.
    s.delete(&binding)?;
    s.vanishes(&binding)?;
    s.world().revoke(&grant)
}
