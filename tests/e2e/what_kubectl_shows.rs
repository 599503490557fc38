//! The API as a person meets it with kubectl: descriptions, columns, selectors, server-side apply.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{World, eventually_ok, repository};

use crate::stage::{DISASSOCIATE, Story, is_observed, scenario};

/// Fields of a schema without a description, below `path`.
fn undescribed(path: &str, schema: &Value, found: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        // The API server describes these itself.
        if matches!(path.as_str(), ".apiVersion" | ".kind" | ".metadata") {
            continue;
        }
        if field["description"].as_str().unwrap_or_default().is_empty() {
            found.push(path.clone());
        }
        undescribed(&path, field, found);
        undescribed(&format!("{path}[]"), &field["items"], found);
    }
}

#[test]
fn kubectl_explain_describes_every_field() -> Result<()> {
    let world = World::shared()?;
    for crd in ["instancerolebindings", "instancerolegrants"] {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}.instancerole.dev");
        let stored = world.control_plane().api().get(&path)?;
        let mut found = Vec::new();
        undescribed("", &stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut found);
        assert_eq!(found, [""; 0], "{crd}: fields without a description");
    }
    // The API server publishes a new type's schema some moments after the type itself.
    let explain = |what: &str| {
        eventually_ok("kubectl explain", std::time::Duration::from_secs(30), || {
            world.control_plane().admin().run(&["explain", what])
        })
    };
    assert!(explain("irb.spec.instanceProfile.none")?.contains("No IAM role"));
    assert!(explain("irb.spec.adoptionPolicy")?.contains("OnlyIfNone"));
    assert!(explain("irg.spec.instances")?.contains("ids"));
    Ok(())
}

#[test]
fn the_committed_crds_are_those_of_the_program() -> Result<()> {
    let fresh = World::shared()?.scratch().join("crds");
    std::fs::create_dir(&fresh)?;
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_instance-role-controller"))
        .args(["crds", "--output-dir", &fresh.to_string_lossy()])
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut compared = 0;
    for entry in std::fs::read_dir(&fresh)? {
        let file = entry?.path();
        let name = file.file_name().context("a file without name")?;
        let committed = repository().join("crds").join(name);
        let committed = std::fs::read_to_string(&committed)
            .with_context(|| format!("{} is not there: `make crds`", committed.display()))?;
        assert_eq!(committed, std::fs::read_to_string(&file)?, "{name:?} differs: `make crds`");
        compared += 1;
    }
    assert!(compared >= 2, "{compared} files");
    Ok(())
}

#[test]
fn columns_and_selectors() -> Result<()> {
    let s = scenario("columns")?;
    s.sandbox().profile("columns-app")?;
    let i = s.sandbox().instance("running", None)?;
    let j = s.sandbox().instance("running", None)?;
    s.bind("web", &i, &json!({"name": "columns-app"}))?;
    s.bind("bare", &j, &json!({"none": {}}))?;
    let ready = s.wait_until_ready("web")?;
    s.reaches("bare", "Disassociated")?;
    let namespace = format!("--namespace={}", s.namespace());
    let kubectl = s.world().control_plane().admin();
    let get = |more: &[&str]| kubectl.run(&[&["get", "irb", &namespace], more].concat());

    let table = get(&[])?;
    let header: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header, ["NAME", "INSTANCE", "PROFILE", "READY", "STATUS", "AGE"], "{table}");
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    let web = row("web");
    for part in [i.as_str(), "columns-app", "True", "carries columns-app"] {
        assert!(web.contains(part), "{web}");
    }
    assert!(row("bare").contains("none"), "{table}");

    let wide = get(&["-o", "wide"])?;
    let header: Vec<&str> = wide.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header[6..], ["SYNCED", "MODE", "OBSERVED", "ASSOCIATION"], "{wide}");
    let association = ready["status"]["observed"]["associationId"].as_str().context("association")?;
    assert!(wide.contains(association), "{wide}");

    let by_instance = get(&["-o", "name", &format!("--field-selector=spec.instanceId={j}")])?;
    assert_eq!(by_instance.trim(), "instancerolebinding.instancerole.dev/bare");
    let by_profile = get(&["-o", "name", "--field-selector=spec.instanceProfile.name=columns-app"])?;
    assert_eq!(by_profile.trim(), "instancerolebinding.instancerole.dev/web");
    // Grants are of the category too, those of all tests that run beside this one.
    let by_category = kubectl.run(&["get", "aws", &namespace, "-o", "name"])?;
    let bindings = by_category.lines().filter(|line| line.starts_with("instancerolebinding."));
    assert_eq!(bindings.count(), 2, "{by_category}");
    kubectl.run(&["wait", "--for=condition=Ready", "irb/web", &namespace, "--timeout=5s"])?;
    Ok(())
}

#[test]
fn another_field_manager_can_switch_a_name_to_none() -> Result<()> {
    let s = scenario("switch")?;
    s.sandbox().profile("switch-app")?;
    let i = s.sandbox().instance("running", Some("switch-app"))?;
    let namespace = format!("--namespace={}", s.namespace());
    let apply = |manager: &str, profile: Value, force: bool| {
        let object = json!({
            "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding", "metadata": {"name": "web"},
            "spec": {"instanceId": i, "instanceProfile": profile},
        });
        let manager = format!("--field-manager={manager}");
        let force = format!("--force-conflicts={force}");
        let args = ["apply", "--server-side", &namespace, &manager, &force, "-f", "-"];
        s.world().control_plane().admin().run_with(&args, Some(&object.to_string()))
    };
    apply("argocd", json!({"name": "switch-app"}), false)?;
    s.wait_until_ready("web")?;
    let refused = apply("person", json!({"none": {}}), false).err().context("two owners")?.to_string();
    assert!(refused.contains(".spec.instanceProfile"), "{refused}");
    apply("person", json!({"none": {}}), true)?;
    let binding = s.reaches("web", "Disassociated")?;
    assert!(is_observed(&binding));
    assert_eq!(binding["spec"]["instanceProfile"], json!({"none": {}}));
    assert_eq!(s.changes(&i)?, [DISASSOCIATE]);
    Ok(())
}
