//! Parts of the pages in `docs/` that the program writes itself, and how they are kept true: a test makes each part anew and
//! compares. `UPDATE_DOCS=1` writes instead.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// A file of the repository.
pub(crate) fn read(page: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// Fails unless the part of this name holds `is`. A part begins with `<!-- NAME: … -->` and ends with `<!-- /NAME -->`.
pub(crate) fn keep(page: &str, name: &str, is: &str) {
    let text = read(page);
    let end = format!("<!-- /{name} -->");
    let begin = text.find(&format!("<!-- {name}: ")).unwrap_or_else(|| panic!("{page} has no part {name}"));
    let (head, rest) = text.split_at(begin);
    let (note, rest) = rest.split_once("-->").unwrap();
    let (_, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("{page}: no {end}"));
    let wanted = format!("{head}{note}-->\n{is}{end}{tail}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(page), wanted).unwrap();
    } else {
        assert!(text == wanted, "{page}: {name} differs: UPDATE_DOCS=1 writes it anew\n{is}");
    }
}

/// A table, with an empty line before it.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let line = |cells: &[String; N]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = format!("\n| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    text.extend(rows.into_iter().map(|row| line(&row)));
    text
}

/// The shipped policies, the narrowest first.
const POLICIES: [&str; 3] = ["observe-only", "associate-only", "full"];

/// What an action is for. A new action in a policy wants a line here.
fn purpose(action: &str) -> &'static str {
    match action {
        "ec2:DescribeIamInstanceProfileAssociations" => "to see which instance carries what",
        "ec2:DescribeInstances" => "to see state and tags of instances that are to be changed",
        "iam:GetInstanceProfile" => "to find the profile that a binding names, and whether it holds a role",
        "iam:ListInstanceProfiles" => "the same for many at once",
        "iam:ListInstanceProfilesForRole" => "to find the profile of a `roleName`",
        "ec2:AssociateIamInstanceProfile" => "to attach",
        "ec2:ReplaceIamInstanceProfileAssociation" => "to exchange on a running instance",
        "ec2:DisassociateIamInstanceProfile" => "to detach",
        "iam:PassRole" => "AWS asks for it whenever a profile is put on an instance, for the role in it",
        other => panic!("what is {other} for?"),
    }
}

fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(word) => vec![word.clone()],
        Value::Array(all) => all.iter().flat_map(words).collect(),
        other => panic!("neither a word nor a list: {other}"),
    }
}

#[test]
fn the_page_of_permissions_tells_each_action_of_the_policies() {
    let mut actions: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let mut order = Vec::new();
    for (number, name) in POLICIES.iter().enumerate() {
        let policy: Value = serde_json::from_str(&read(&format!("deploy/iam/{name}.json"))).unwrap();
        for statement in policy["Statement"].as_array().unwrap() {
            for action in words(&statement["Action"]) {
                if !order.contains(&action) {
                    order.push(action.clone());
                }
                actions.entry(action).or_default().insert(number);
            }
        }
    }
    let rows = order.into_iter().map(|action| {
        let held = |number: usize| if actions[&action].contains(&number) { "yes" } else { "" }.to_owned();
        let why = purpose(&action).to_owned();
        [format!("`{action}`"), held(0), held(1), held(2), why]
    });
    let head = ["action", "`observe-only`", "`associate-only`", "`full`", "what for"];
    keep("docs/reference/permissions.md", "permissions", &table(head, rows));
}

#[test]
fn the_page_of_permissions_tells_each_right_in_the_cluster() {
    let mut rows = Vec::new();
    for file in ["cluster-role.yaml", "leader-election.yaml"] {
        let text = read(&format!("deploy/kustomize/default/{file}"));
        for document in serde_yaml::Deserializer::from_str(&text) {
            let role: Value = serde::Deserialize::deserialize(document).unwrap();
            for rule in role["rules"].as_array().into_iter().flatten() {
                let group = words(&rule["apiGroups"]).join(", ");
                let group = if group.is_empty() { "core".to_owned() } else { group };
                let what = words(&rule["resources"]).join(", ");
                let names = rule.get("resourceNames").map(words).unwrap_or_default().join(", ");
                let what = if names.is_empty() { what } else { format!("{what} ({names})") };
                let kind = role["kind"].as_str().unwrap().to_owned();
                rows.push([kind, group, what, words(&rule["verbs"]).join(", ")]);
            }
        }
    }
    let head = ["role", "API group", "what", "verbs"];
    keep("docs/reference/permissions.md", "cluster", &table(head, rows));
}

/// What `make` is told to do in the workflows is there to be done.
#[test]
fn the_workflows_are_yaml_and_run_what_there_is() {
    let makefile = read("Makefile");
    let mut commands = Vec::new();
    for folder in [".github", ".github/workflows", ".github/ISSUE_TEMPLATE"] {
        for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.ends_with(".yml") {
                continue;
            }
            let text = read(&format!("{folder}/{name}"));
            let parsed: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            for step in parsed["jobs"].as_object().into_iter().flatten().flat_map(|(_, job)| {
                assert!(job["runs-on"].is_string(), "{name}: a job without a machine");
                job["steps"].as_array().into_iter().flatten()
            }) {
                assert!(step["run"].is_string() != step["uses"].is_string(), "{name}: {step}");
                commands.extend(step["run"].as_str().map(str::to_owned));
            }
        }
    }
    assert!(commands.iter().any(|command| command == ".ci/run"), "{commands:?}");
    for target in commands.iter().filter_map(|command| command.strip_prefix("make ")) {
        assert!(makefile.contains(&format!("\n.PHONY: {target}\n")), "make {target}");
    }
}
