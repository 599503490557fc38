//! The chart on a real API server: installed, upgraded, removed; and the controller at work with nothing but what the
//! chart gave it. There is no kubelet here: the program is started as the pod would start it, as the chart's account.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{ControlPlane, Controller, ControllerCommand, Sandbox, Scratch, eventually_ok, repository};

use super::{
    NAMESPACE, RELEASE, arguments, chart, ci, helm, name_of, one, run, template, values_files, with_values,
};
use crate::stage::{condition, is_held, reason};

const BINDING: &str = "/apis/instancerole.dev/v1alpha1/namespaces/team-a/instancerolebindings/web-1";

fn helm_on(plane: &ControlPlane) -> Result<Command> {
    let mut command = helm()?;
    command.env("KUBECONFIG", plane.kubeconfig()).env("HELM_NAMESPACE", NAMESPACE);
    Ok(command)
}

/// A control plane with two namespaces for teams, and the kinds of the Prometheus Operator.
fn cluster() -> Result<ControlPlane> {
    let plane = ControlPlane::start()?;
    let crds = repository().join("target/tools/crds");
    let crds = crds.to_str().context("a path that is no text")?;
    plane.admin().run(&["apply", "--server-side", "-f", crds]).context("`make tools` fetches them")?;
    for team in ["team-a", "team-b"] {
        plane.api().create("/api/v1/namespaces", &json!({"metadata": {"name": team}}))?;
    }
    Ok(plane)
}

fn install(plane: &ControlPlane, values: &Path) -> Result<String> {
    let told = run(helm_on(plane)?
        .args(["install", RELEASE])
        .arg(chart())
        .arg("--create-namespace")
        .args(with_values(values)))?;
    for crd in ["instancerolebindings", "instancerolegrants"] {
        let crd = format!("crd/{crd}.instancerole.dev");
        plane.admin().run(&["wait", "--for=condition=Established", &crd, "--timeout=30s"])?;
    }
    Ok(told)
}

fn grant_and_bind(plane: &ControlPlane, instance: &str) -> Result<()> {
    let grant = json!({
        "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleGrant", "metadata": {"name": "team-a"},
        "spec": {
            "namespaces": {"names": ["team-a"]},
            "instanceProfiles": ["web"],
            "instances": {"ids": [instance]},
        },
    });
    let binding = json!({
        "apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleBinding", "metadata": {"name": "web-1"},
        "spec": {"instanceId": instance, "instanceProfile": {"name": "web"}},
    });
    plane.api().apply("/apis/instancerole.dev/v1alpha1/instancerolegrants/team-a", &grant)?;
    plane.api().apply(BINDING, &binding)?;
    Ok(())
}

/// As the API server would store it if helm applied it, and without a word of warning.
fn is_taken(plane: &ControlPlane, objects: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let args =
        "apply --server-side --field-manager=helm --force-conflicts --dry-run=server --validate=strict -f -";
    let args: Vec<&str> = args.split(' ').collect();
    let output = plane.admin().output(&args, Some(&list))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success() && said.is_empty(), "{said}");
    Ok(())
}

#[test]
fn it_is_installed_upgraded_removed_and_installed_again() -> Result<()> {
    let plane = cluster()?;
    let notes = install(&plane, &ci("default"))?;
    assert!(notes.contains("Nothing is allowed until a grant says so"), "{notes}");
    grant_and_bind(&plane, "i-0123456789abcdef0")?;

    for file in values_files()? {
        is_taken(&plane, &template(&with_values(&file))?).with_context(|| file.display().to_string())?;
    }

    let upgrade = |values: &Path| {
        run(helm_on(&plane)?.args(["upgrade", RELEASE]).arg(chart()).args(with_values(values)))
    };
    upgrade(&ci("admission"))?;
    let stored = |path: &str| plane.api().find(path);
    const POLICY: &str =
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/instancerole-early-refusal";
    let deployment = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{RELEASE}");
    ensure!(stored(POLICY)?.is_some(), "the upgrade brings the policy");
    let before = stored(&deployment)?.context("no Deployment")?;
    upgrade(&ci("admission"))?;
    let after = stored(&deployment)?.context("no Deployment")?;
    assert_eq!(
        before["metadata"]["generation"], after["metadata"]["generation"],
        "an upgrade to the same changes nothing"
    );
    // As docs/howto/upgrade.md says.
    run(helm_on(&plane)?.args(["upgrade", RELEASE]).arg(chart()).arg("--reset-then-reuse-values"))?;
    let kept = stored(&deployment)?.context("no Deployment")?;
    assert_eq!(after["metadata"]["generation"], kept["metadata"]["generation"], "the values are kept");
    // From two replicas that follow each other to one that is stopped first, and back.
    upgrade(&ci("single"))?;
    upgrade(&ci("default"))?;
    ensure!(stored(POLICY)?.is_none(), "the upgrade takes the policy away");

    run(helm_on(&plane)?.args(["uninstall", RELEASE]))?;
    ensure!(stored(&deployment)?.is_none(), "the Deployment is gone");
    ensure!(stored(&format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{RELEASE}"))?.is_none());
    ensure!(stored(BINDING)?.is_some(), "the binding stays, since the CRD does");
    install(&plane, &ci("default"))?;
    ensure!(stored(BINDING)?.is_some(), "the binding was not touched");
    Ok(())
}

/// A cluster with the chart, an EC2 with one instance, and the controller as the Deployment would run it.
struct Running {
    plane: ControlPlane,
    sandbox: Sandbox,
    instance: String,
    _controller: Controller,
    _logs: Scratch,
}

impl Running {
    fn with(values: &str) -> Result<Self> {
        let plane = cluster()?;
        install(&plane, &ci(values))?;
        let sandbox = Sandbox::start()?;
        sandbox.profile("web")?;
        let instance = sandbox.instance("running", None)?;
        grant_and_bind(&plane, &instance)?;
        let kubeconfig = plane.kubeconfig_for(NAMESPACE, RELEASE)?;
        // Ports, log format and leadership are those of the tests.
        let ours =
            ["--metrics-bind-address", "--health-probe-bind-address", "--log-format", "--leader-elect"];
        let given = arguments(&template(&with_values(&ci(values)))?)?;
        let given =
            given.into_iter().filter(|argument| argument != "run" && !ours.contains(&name_of(argument)));
        let logs = Scratch::new("chart")?;
        let controller = ControllerCommand::new(&kubeconfig, &sandbox.aws_env())
            .args(given)
            .start(logs.path(), "controller")?;
        Ok(Self { plane, sandbox, instance, _controller: controller, _logs: logs })
    }

    /// Waits until the binding is `Ready` for this reason.
    fn reaches(&self, wanted: &str) -> Result<Value> {
        eventually_ok(&format!("web-1 reaches {wanted}"), Duration::from_secs(60), || {
            let binding = self.plane.api().get(BINDING)?;
            ensure!(reason(&binding) == wanted, "{:#}", binding["status"]);
            Ok(binding)
        })
    }

    /// No right was missing.
    fn was_never_refused(&self) -> Result<()> {
        let mut calls = self.plane.calls_of_service_accounts()?;
        calls.retain(|call| call.is_by(NAMESPACE, RELEASE));
        ensure!(!calls.is_empty(), "the controller asked for nothing");
        let refused: Vec<_> = calls.iter().filter(|call| matches!(call.status.code, 401 | 403)).collect();
        ensure!(refused.is_empty(), "a right is missing: {refused:#?}");
        Ok(())
    }

    /// Whether the controller's account may do this.
    fn may(&self, verb: &str, resource: &str, namespace: &str) -> Result<bool> {
        let kubectl = self.plane.kubectl_with(&self.plane.kubeconfig_for(NAMESPACE, RELEASE)?);
        let output = kubectl.output(&["auth", "can-i", verb, resource, "--namespace", namespace], None)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim() == "yes")
    }
}

const BINDINGS: &str = "instancerolebindings.instancerole.dev";
const LEASES: &str = "leases.coordination.k8s.io";

#[test]
fn with_default_values_it_attaches_and_lets_go() -> Result<()> {
    let running = Running::with("default")?;
    let binding = running.reaches("Associated")?;
    assert!(is_held(&binding));
    running.plane.api().delete(BINDING)?;
    eventually_ok("the binding is let go", Duration::from_secs(60), || {
        ensure!(running.plane.api().find(BINDING)?.is_none(), "it is still there");
        Ok(())
    })?;
    assert_eq!(running.sandbox.profile_of(&running.instance)?, None);
    running.was_never_refused()?;
    for (verb, resource, namespace, expected) in [
        ("create", LEASES, NAMESPACE, true),
        ("patch", "leases.coordination.k8s.io/instance-role-controller", NAMESPACE, true),
        ("patch", LEASES, NAMESPACE, false),
        ("create", LEASES, "team-a", false),
        ("patch", BINDINGS, "team-b", true),
    ] {
        assert_eq!(running.may(verb, resource, namespace)?, expected, "{verb} {resource} in {namespace}");
    }
    Ok(())
}

#[test]
fn for_some_namespaces_its_rights_end_there() -> Result<()> {
    let running = Running::with("namespaced")?;
    running.reaches("Associated")?;
    running.was_never_refused()?;
    for (verb, resource, namespace, expected) in [
        ("patch", BINDINGS, "team-a", true),
        ("patch", BINDINGS, "team-b", false),
        ("list", BINDINGS, "team-b", false),
        ("create", "events.events.k8s.io", "team-b", false),
        ("list", "instancerolegrants.instancerole.dev", "team-b", true),
    ] {
        assert_eq!(running.may(verb, resource, namespace)?, expected, "{verb} {resource} in {namespace}");
    }
    Ok(())
}

#[test]
fn observing_only_it_tells_what_it_would_do_and_may_do_nothing() -> Result<()> {
    let running = Running::with("observe-only")?;
    let binding = running.reaches("ObserveOnly")?;
    assert!(!is_held(&binding));
    assert_eq!(binding["status"]["plan"][0]["operation"], "AssociateIamInstanceProfile");
    assert_eq!(condition(&binding, "Synced")["status"], "False");
    assert!(running.sandbox.writes_to(&running.instance)?.is_empty());
    running.was_never_refused()?;
    assert!(!running.may("patch", BINDINGS, "team-a")?);
    Ok(())
}

/// The agent of EKS Pod Identity, as far as the SDK asks it: a pod's own credentials over HTTP. It ends with the test.
fn pod_identity_agent(access_key: &str) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}/v1/credentials", listener.local_addr()?);
    let body = json!({"AccessKeyId": access_key, "SecretAccessKey": "secret-of-a-stand-in", "Token": "token",
        "Expiration": "2099-01-01T00:00:00Z"})
    .to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream?;
            // To the end of the request's head; what it asks for is always the same.
            for line in BufReader::new(&stream).lines() {
                if line?.is_empty() {
                    break;
                }
            }
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )?;
        }
        std::io::Result::Ok(())
    });
    Ok(address)
}

/// `aws.assumeRoleArn` with EKS Pod Identity: the SDK reads the file that the chart makes, and acts as the role.
#[test]
fn with_a_role_to_take_on_it_acts_as_that_role() -> Result<()> {
    let plane = cluster()?;
    let sandbox = Sandbox::start()?;
    let user = sandbox.aws_env();
    let made = sandbox.post("roles", &json!({"name": "taken-on"}))?;
    let role = made["roles"][0]["arn"].as_str().context("no role")?.to_owned();
    let logs = Scratch::new("assumed")?;
    let values = logs.join("values.yaml");
    std::fs::write(&values, json!({"aws": {"region": "eu-west-1", "assumeRoleArn": role}}).to_string())?;
    install(&plane, &values)?;
    sandbox.profile("web")?;
    let instance = sandbox.instance("running", None)?;
    grant_and_bind(&plane, &instance)?;

    let objects = template(&with_values(&values))?;
    let config = one(&objects, "ConfigMap", "instance-role-controller-aws")?["data"]["config"].clone();
    let file = logs.join("config");
    std::fs::write(&file, config.as_str().context("no config")?)?;
    let _controller = ControllerCommand::new(&plane.kubeconfig_for(NAMESPACE, RELEASE)?, &user)
        .env("AWS_CONFIG_FILE", &file.to_string_lossy())
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &pod_identity_agent(user.access_key())?)
        .env("AWS_ACCESS_KEY_ID", "")
        .env("AWS_SECRET_ACCESS_KEY", "")
        .start(logs.path(), "controller")?;
    eventually_ok("web-1 is attached", Duration::from_secs(60), || {
        let binding = plane.api().get(BINDING)?;
        ensure!(reason(&binding) == "Associated", "{:#}", binding["status"]);
        Ok(())
    })?;
    let writes = sandbox.writes_in_any_role_to(&instance)?;
    ensure!(!writes.is_empty(), "nothing was written");
    ensure!(writes.iter().all(|call| call.identity.contains("assumed-role/taken-on/")), "{writes:#?}");
    Ok(())
}
