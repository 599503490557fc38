//! The walls between the rooms, checked on the source: what a room may not know must not be named in it.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(room: &str) -> Vec<PathBuf> {
    let mut todo = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room)];
    let mut files = Vec::new();
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.file_name().is_some_and(|name| name == "tests") => {}
                true => todo.push(path),
                false => files.push(path),
            }
        }
    }
    assert!(files.len() > 3, "{room} has no sources");
    files
}

fn names(room: &str, forbidden: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for file in sources(room) {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in
            code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    found
}

#[test]
fn the_decision_has_no_io_no_clock_and_no_foreign_type() {
    let forbidden = [
        "async ",
        ".await",
        "now()",
        "kube::",
        "k8s_openapi",
        "aws_",
        "tokio",
        "tracing",
        "std::fs",
        "std::env",
        "crate::ec2",
        "crate::controller",
    ];
    assert_eq!(names("decide", &forbidden), Vec::<String>::new());
}

#[test]
fn ec2_knows_no_kubernetes_and_no_binding() {
    assert_eq!(
        names("ec2", &["kube::", "k8s_openapi", "InstanceRoleBinding", "crate::controller"]),
        Vec::<String>::new()
    );
}

#[test]
fn reading_manifests_asks_nobody_and_decides_nothing() {
    let forbidden = ["async ", "tokio", "kube::", "crate::ec2", "crate::controller", "crate::decide"];
    assert_eq!(names("manifest", &forbidden), Vec::<String>::new());
}

#[test]
fn no_aws_type_leaves_its_room() {
    for room in ["controller", "api", "decide", "telemetry", "cli", "manifest"] {
        assert_eq!(names(room, &["aws_sdk", "aws_config", "aws_smithy"]), Vec::<String>::new());
    }
}

#[test]
fn yaml_is_kept_at_the_edge_that_prints_manifests() {
    for room in ["controller", "api", "decide", "ec2", "telemetry"] {
        assert_eq!(names(room, &["serde_yaml"]), Vec::<String>::new());
    }
}
