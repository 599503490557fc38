//! The templates: every value does what it says, wrong ones are refused in words, nothing is forgotten.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{repository, tool};

use super::{
    NAMESPACE, RELEASE, arguments, chart, ci, helm, name_of, objects, one, run, template, values_files,
    with_values,
};

#[test]
fn every_values_file_is_linted_and_rendered() -> Result<()> {
    let files = values_files()?;
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        run(helm()?.args(["lint", "--strict"]).arg(chart()).args(with_values(&file)))
            .with_context(|| file.display().to_string())?;
        let objects = template(&with_values(&file))?;
        for object in &objects {
            let labels = &object["metadata"]["labels"];
            for label in ["name", "instance", "version", "part-of", "managed-by"] {
                let label = format!("app.kubernetes.io/{label}");
                ensure!(labels[&label].is_string(), "{}: {} has no {label}", file.display(), object["kind"]);
            }
        }
    }
    Ok(())
}

/// The chart without any value at all renders too, and says aloud what is missing.
#[test]
fn without_values_it_renders_and_the_notes_ask_for_the_region() -> Result<()> {
    template(&[])?;
    let notes = |set: &str| {
        run(helm()?
            .args(["install", "--dry-run=client", RELEASE, "--namespace", NAMESPACE, set])
            .arg(chart()))
    };
    assert!(notes("--set=dryRun=true")?.contains("!! aws.region is not set"));
    let told = notes("--set=aws.region=eu-west-1,crds.keep=false")?;
    assert!(!told.contains("aws.region is not set"), "{told}");
    assert!(told.contains("!! crds.keep is false"), "{told}");
    Ok(())
}

#[test]
fn a_wrong_value_is_refused_with_its_name_and_what_is_expected() -> Result<()> {
    for (set, words) in [
        ("replicaCount=two", vec!["/replicaCount", "want integer"]),
        ("replicas=3", vec!["'replicas' not allowed"]),
        ("image.pullPolicy=Sometimes", vec!["/image/pullPolicy", "'Always', 'IfNotPresent', 'Never'"]),
        ("image.digest=latest", vec!["/image/digest", "sha256"]),
        ("aws.region=Ireland", vec!["/aws/region", "'Ireland' does not match"]),
        ("aws.assumeRoleArn=admin", vec!["/aws/assumeRoleArn", "arn:aws"]),
        ("reconcile.resyncInterval=fast", vec!["/reconcile/resyncInterval", "(ms|s|m|h)"]),
        ("reconcile.resyncInterval=0s", vec!["/reconcile/resyncInterval"]),
        ("reconcile.concurrency=0", vec!["/reconcile/concurrency", "minimum"]),
        ("budgets.share=2", vec!["/budgets/share", "maximum"]),
        ("budgets.share=1.5", vec!["/budgets/share", "'1.5' does not match"]),
        ("budgets.operations.RunInstances.burst=1", vec!["/budgets/operations", "RunInstances"]),
        ("budgets.maxChangesPerPass=many", vec!["/budgets/maxChangesPerPass"]),
        ("watchNamespaces[0]=Team_A", vec!["/watchNamespaces/0", "'Team_A' does not match"]),
        ("defaultDeletionPolicy=Delete", vec!["/defaultDeletionPolicy", "'Detach', 'Retain', 'Restore'"]),
        ("requireInstanceTag=managed", vec!["/requireInstanceTag"]),
        ("extraArgs[0]=debug", vec!["/extraArgs/0"]),
        ("admissionPolicy.settings.modes[0]=Look", vec!["/admissionPolicy/settings/modes/0", "Observe"]),
        ("logFormat=xml", vec!["/logFormat", "'json', 'text'"]),
        ("metrics.port=80000", vec!["/metrics/port", "65,535"]),
        ("leaderElection.enabled=false", vec!["replicaCount", "one replica only"]),
        ("serviceAccount.create=false", vec!["serviceAccount.name", "name the account that is there"]),
        ("metrics.port=0,serviceMonitor.enabled=true", vec!["serviceMonitor.enabled", "metrics.port is 0"]),
    ] {
        let refused = template(&[format!("--set={set}")]).err().with_context(|| format!("{set} is taken"))?;
        let said = refused.to_string();
        for word in words {
            ensure!(said.contains(word), "{set}: {word} is not in: {said}");
        }
    }
    Ok(())
}

/// What `--set` makes of one place in one object.
type Effect = (&'static str, &'static str, &'static str, &'static str, Value);

fn effects() -> Vec<Effect> {
    let name = RELEASE;
    vec![
        (
            "image.tag=v9",
            "Deployment",
            name,
            "/spec/template/spec/containers/0/image",
            json!("ghcr.io/instancerole-dev/instance-role-controller:v9"),
        ),
        (
            "image.tag=v9,image.digest=sha256:abababababababababababababababababababababababababababababababab",
            "Deployment",
            name,
            "/spec/template/spec/containers/0/image",
            json!(
                "ghcr.io/instancerole-dev/instance-role-controller@sha256:abababababababababababababababababababababababababababababababab"
            ),
        ),
        ("fullnameOverride=roles", "Deployment", "roles", "/metadata/name", json!("roles")),
        ("fullnameOverride=roles", "ServiceAccount", "roles", "/metadata/name", json!("roles")),
        (
            "nameOverride=roles",
            "Deployment",
            "instance-role-controller-roles",
            "/spec/selector/matchLabels/app.kubernetes.io~1name",
            json!("roles"),
        ),
        ("namespaceOverride=elsewhere", "Deployment", name, "/metadata/namespace", json!("elsewhere")),
        (
            "namespaceOverride=elsewhere",
            "ClusterRoleBinding",
            name,
            "/subjects/0/namespace",
            json!("elsewhere"),
        ),
        ("commonLabels.team=a", "NetworkPolicy", name, "/metadata/labels/team", json!("a")),
        ("replicaCount=5", "Deployment", name, "/spec/replicas", json!(5)),
        (
            "leaderElection.enabled=false,replicaCount=1",
            "Deployment",
            name,
            "/spec/strategy",
            json!({"type": "Recreate"}),
        ),
        (
            "aws.endpointUrl=http://ec2.test",
            "Deployment",
            name,
            "/spec/template/spec/containers/0/env/0",
            json!({"name": "AWS_ENDPOINT_URL", "value": "http://ec2.test"}),
        ),
        (
            "aws.region=eu-west-1",
            "Deployment",
            name,
            "/spec/template/spec/containers/0/env/0",
            json!({"name": "AWS_REGION", "value": "eu-west-1"}),
        ),
        (
            "aws.assumeRoleArn=arn:aws:iam::111122223333:role/x",
            "ConfigMap",
            "instance-role-controller-aws",
            "/data/config",
            json!(
                "[default]\nrole_arn = arn:aws:iam::111122223333:role/x\nrole_session_name = instance-role-controller\ncredential_source = EcsContainer\n"
            ),
        ),
        (
            "metrics.port=9000",
            "Service",
            "instance-role-controller-metrics",
            "/spec/ports/0/port",
            json!(9000),
        ),
        ("metrics.port=9000", "NetworkPolicy", name, "/spec/ingress/0/ports/0/port", json!(9000)),
        (
            "metrics.port=9000",
            "Deployment",
            name,
            "/spec/template/spec/containers/0/ports/0/containerPort",
            json!(9000),
        ),
        (
            "healthProbe.port=9001",
            "Deployment",
            name,
            "/spec/template/spec/containers/0/ports/1/containerPort",
            json!(9001),
        ),
        (
            "serviceAccount.name=other",
            "Deployment",
            name,
            "/spec/template/spec/serviceAccountName",
            json!("other"),
        ),
        (
            "serviceAccount.name=other",
            "RoleBinding",
            "instance-role-controller-leader-election",
            "/subjects/0/name",
            json!("other"),
        ),
        (
            "serviceAccount.name=other",
            "ValidatingAdmissionPolicy",
            "instance-role-controller-guard",
            "/spec/matchConditions/0/expression",
            json!("request.userInfo.username.matches('^system:serviceaccount:[^:]+:other$')"),
        ),
        ("dryRun=true", "ClusterRole", name, "/rules/0/verbs", json!(["get", "list", "watch"])),
        ("watchNamespaces={a,b}", "ClusterRole", name, "/rules/0/resources", json!(["instancerolegrants"])),
        ("watchNamespaces={a,b}", "Role", name, "/metadata/namespace", json!("a")),
        (
            "crds.keep=true",
            "CustomResourceDefinition",
            "instancerolebindings.instancerole.dev",
            "/metadata/annotations",
            json!({"helm.sh/resource-policy": "keep"}),
        ),
        (
            "crds.keep=false",
            "CustomResourceDefinition",
            "instancerolebindings.instancerole.dev",
            "/metadata/annotations",
            Value::Null,
        ),
        (
            "podDisruptionBudget.maxUnavailable=2",
            "PodDisruptionBudget",
            name,
            "/spec/maxUnavailable",
            json!(2),
        ),
        (
            "serviceMonitor.enabled=true",
            "ServiceMonitor",
            name,
            "/spec/endpoints",
            json!([{"port": "metrics", "interval": "30s"}]),
        ),
        ("prometheusRule.enabled=true", "PrometheusRule", name, "/spec/groups/0/name", json!(name)),
        (
            "dashboards.enabled=true",
            "ConfigMap",
            "instance-role-controller-dashboard",
            "/metadata/labels/grafana_dashboard",
            json!("1"),
        ),
        (
            "admissionPolicy.enabled=true,admissionPolicy.settings.modes={Observe}",
            "ConfigMap",
            "instancerole-early-refusal",
            "/data/modes",
            json!("Observe"),
        ),
        (
            "budgets.share=0.25",
            "Deployment",
            name,
            "/spec/template/spec/containers/0/args/11",
            json!("--aws-budget-share=0.25"),
        ),
        (
            "priorityClassName=system-cluster-critical",
            "Deployment",
            name,
            "/spec/template/spec/priorityClassName",
            json!("system-cluster-critical"),
        ),
    ]
}

#[test]
fn each_value_does_what_it_says() -> Result<()> {
    for (set, kind, name, pointer, expected) in effects() {
        let objects = template(&[format!("--set={set}")]).with_context(|| set.to_owned())?;
        let found = one(&objects, kind, name).with_context(|| set.to_owned())?.pointer(pointer).cloned();
        assert_eq!(found.unwrap_or_default(), expected, "{set}: {kind} {name} {pointer}");
    }
    Ok(())
}

#[test]
fn what_is_switched_off_is_not_there() -> Result<()> {
    for (set, kind, name) in [
        ("crds.install=false", "CustomResourceDefinition", "instancerolebindings.instancerole.dev"),
        ("rbac.create=false", "ClusterRole", RELEASE),
        ("rbac.create=false", "Role", "instance-role-controller-leader-election"),
        ("serviceAccount.create=false,serviceAccount.name=mine", "ServiceAccount", RELEASE),
        ("networkPolicy.enabled=false", "NetworkPolicy", RELEASE),
        ("podDisruptionBudget.enabled=false", "PodDisruptionBudget", RELEASE),
        ("admissionPolicy.guard=false", "ValidatingAdmissionPolicy", "instance-role-controller-guard"),
        ("leaderElection.enabled=false,replicaCount=1", "Role", "instance-role-controller-leader-election"),
        ("metrics.port=0", "Service", "instance-role-controller-metrics"),
    ] {
        one(&template(&[])?, kind, name)?;
        let objects = template(&[format!("--set={set}")])?;
        ensure!(one(&objects, kind, name).is_err(), "{set}: {kind} {name} is still there");
    }
    Ok(())
}

/// Every argument of the Deployment, for one values file that has them all.
#[test]
fn values_become_flags() -> Result<()> {
    let given: BTreeSet<String> =
        arguments(&template(&with_values(&ci("everything")))?)?.into_iter().collect();
    let expected = [
        "run",
        "--metrics-bind-address=0.0.0.0:9090",
        "--health-probe-bind-address=0.0.0.0:9091",
        "--log-format=text",
        "--log-level=warn,instance_role_controller=debug",
        "--leader-elect=true",
        "--lease-duration=60s",
        "--renew-deadline=40s",
        "--retry-period=5s",
        "--resync-interval=5m",
        "--max-concurrent-reconciles=4",
        "--aws-budget-share=1",
        "--aws-budget=AssociateIamInstanceProfile=200,10",
        "--aws-budget=DisassociateIamInstanceProfile=100,2.5",
        "--max-changes-per-pass=20%",
        "--default-deletion-policy=Restore",
        "--default-mode=Observe",
        "--require-instance-tag=iam-managed=yes, please",
        "--selector=shard=1",
        "--watch-namespace=team-a",
        "--watch-namespace=team-b",
        "--dry-run=true",
        "--self-instance-id=i-0123456789abcdef0",
    ];
    assert_eq!(given, expected.map(str::to_owned).into());
    Ok(())
}

/// The program as it was built with this test.
fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_instance-role-controller"))
}

#[test]
fn every_flag_in_the_manifests_is_one_of_the_program_and_its_value_is_taken() -> Result<()> {
    let help = String::from_utf8(program().args(["run", "--help"]).output()?.stdout)?;
    let known = |flag: &str| help.split_whitespace().any(|word| word == flag);
    let mut all = Vec::new();
    for file in values_files()? {
        all.push((file.display().to_string(), arguments(&template(&with_values(&file))?)?));
    }
    for overlay in ["default", "namespaced", "observe-only", "ha"] {
        let folder = repository().join("deploy/kustomize").join(overlay);
        let text =
            world::World::shared()?.control_plane().admin().run(&["kustomize", &folder.to_string_lossy()])?;
        all.push((overlay.to_owned(), arguments(&objects(&text)?)?));
    }
    for (file, arguments) in all {
        for argument in arguments.iter().filter(|argument| argument.starts_with("--")) {
            ensure!(known(name_of(argument)), "{file}: `run` has no {argument}");
        }
        // Without a cluster it ends with 1; with an argument that it does not understand, with 2.
        let ended = program().args(&arguments).env("KUBECONFIG", "/nowhere").output()?;
        assert_eq!(ended.status.code(), Some(1), "{file}: {}", String::from_utf8_lossy(&ended.stderr));
    }
    Ok(())
}

#[test]
fn what_the_chart_copies_is_up_to_date() -> Result<()> {
    let fresh = world::Scratch::new("chart-files")?;
    let script = repository().join("hack/chart-files.sh");
    ensure!(Command::new(script).arg(fresh.path()).status()?.success(), "hack/chart-files.sh fails");
    let mut compared = 0;
    for folder in ["", "crds"] {
        for entry in std::fs::read_dir(fresh.path().join(folder))? {
            let file = entry?.path();
            if file.is_dir() {
                continue;
            }
            let name = std::path::Path::new(folder).join(file.file_name().context("no name")?);
            let here = chart().join("files").join(&name);
            ensure!(
                std::fs::read(&here).ok() == Some(std::fs::read(&file)?),
                "{} differs: `make chart` writes it anew",
                here.display()
            );
            compared += 1;
        }
    }
    assert!(compared >= 6, "{compared} files");
    Ok(())
}

#[test]
fn the_package_holds_what_it_needs_and_no_tests() -> Result<()> {
    let fresh = world::Scratch::new("chart-package")?;
    run(helm()?.arg("package").arg(chart()).arg("--destination").arg(fresh.path()))?;
    let archive = fresh.path().join(concat!("instance-role-controller-", env!("CARGO_PKG_VERSION"), ".tgz"));
    let listed = run(Command::new("tar").arg("-tzf").arg(&archive))?;
    let about = run(helm()?.args(["show", "chart"]).arg(&archive))?;
    let app = concat!("appVersion: v", env!("CARGO_PKG_VERSION"));
    ensure!(
        about.lines().any(|line| line.replace(['"', '\''], "") == app),
        "Cargo.toml and the chart differ: {about}"
    );
    for file in [
        "values.schema.json",
        "README.md",
        "files/crds/instancerole.dev_instancerolegrants.yaml",
        "examples/irsa.yaml",
    ] {
        ensure!(listed.contains(file), "{file} is missing: {listed}");
    }
    ensure!(!listed.contains("/ci/"), "{listed}");
    // What is in the package renders as the folder does.
    let rendered = run(helm()?.args(["template", RELEASE]).arg(&archive).args(["--namespace", NAMESPACE]))?;
    assert_eq!(objects(&rendered)?, template(&[])?);
    ensure!(tool("helm").is_ok());
    Ok(())
}
