//! A fleet that lives in Git: two environments, a service account that may write bindings and nothing else, and tools that wait
//! for health. Commits are the only thing that people do.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{ACCOUNT, Grants, Kubectl, World, WorldOptions, eventually_ok, judge};

use crate::command::{Ran, plan, said};
use crate::stage::{ASSOCIATE, DISASSOCIATE, REPLACE};

const STAGING: &str = "fleet-staging";
const PRODUCTION: &str = "fleet-production";

/// What the administrator sets up once: namespaces, the tool's account with its rights, a grant.
const BY_THE_ADMINISTRATOR: &str = r#"
{apiVersion: v1, kind: Namespace, metadata: {name: fleet-staging}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: fleet-production}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: flux-system}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: kustomize-controller, namespace: flux-system}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: fleet}
rules:
  - {apiGroups: [instancerole.dev], resources: [instancerolebindings], verbs: ["*"]}
  # The list of what was applied, for prune.
  - {apiGroups: [""], resources: [configmaps], verbs: [get, create, patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: fleet, namespace: fleet-staging}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: fleet}
subjects: [{kind: ServiceAccount, name: kustomize-controller, namespace: flux-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: fleet, namespace: fleet-production}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: fleet}
subjects: [{kind: ServiceAccount, name: kustomize-controller, namespace: flux-system}]
---
apiVersion: instancerole.dev/v1alpha1
kind: InstanceRoleGrant
metadata: {name: fleet}
spec:
  namespaces: {names: [fleet-staging, fleet-production]}
  instanceProfiles: ["arn:aws:iam::123456789012:instance-profile/fleet/*"]
  instances: {regions: [eu-west-1]}
"#;

const WEB: &str = r#"
apiVersion: instancerole.dev/v1alpha1
kind: InstanceRoleBinding
metadata: {name: web}
spec:
  instanceId: i-00000000000000000 # each environment has its own
  instanceProfile: {name: web}
"#;

/// The tool, its repository, and the world that it acts in.
struct Fleet {
    world: World,
    repository: PathBuf,
    tool: Kubectl,
}

impl Fleet {
    fn new() -> Result<Self> {
        let world = World::new(WorldOptions {
            own_control_plane: true,
            controller_flags: vec!["--resync-interval=1s".to_owned()],
            grants: Grants::None,
            ..WorldOptions::default()
        })?;
        for name in ["web", "web-v2"] {
            world.sandbox().add_profile(&json!({"name": name, "path": "/fleet/"}))?;
        }
        world.sandbox().profile("administrator")?;
        world.control_plane().apply(BY_THE_ADMINISTRATOR)?;
        let account = world.control_plane().kubeconfig_for("flux-system", "kustomize-controller")?;
        let tool = world.control_plane().kubectl_with(&account);
        let repository = world.scratch().join("fleet");
        std::fs::create_dir(&repository)?;
        let fleet = Self { world, repository, tool };
        fleet.git(&["init", "--quiet", "--initial-branch=main"])?;
        Ok(fleet)
    }

    fn git(&self, args: &[&str]) -> Result<String> {
        let output = Command::new("git")
            .current_dir(&self.repository)
            .args(["-c", "user.name=Jane", "-c", "user.email=jane@example.com"])
            .args(args)
            // Nothing of this machine's settings.
            .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_SYSTEM", "/dev/null")])
            .output()
            .context("git cannot be run")?;
        ensure!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.repository.join(file);
        std::fs::create_dir_all(path.parent().context("a file in no folder")?)?;
        Ok(std::fs::write(path, text)?)
    }

    /// An overlay: the base with the environment's own instances and profiles, as `(binding, instance, profile)`.
    fn environment(&self, name: &str, bindings: &[(&str, &str, &str)]) -> Result<()> {
        let patches: Vec<Value> = bindings
            .iter()
            .map(|(binding, instance, profile)| {
                let patch = json!([
                    {"op": "replace", "path": "/spec/instanceId", "value": instance},
                    {"op": "replace", "path": "/spec/instanceProfile", "value": {"name": profile}},
                ]);
                json!({"target": {"kind": "InstanceRoleBinding", "name": binding}, "patch": patch.to_string()})
            })
            .collect();
        let overlay = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
            "namespace": name, "resources": ["../base"], "patches": patches,
        });
        self.write(&format!("{name}/kustomization.yaml"), &serde_yaml::to_string(&overlay)?)
    }

    fn commit(&self, what: &str) -> Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", what]).map(drop)
    }

    /// What a GitOps tool does with the newest commit: server-side apply as its own account, and prune by what it applied before.
    fn sync(&self, environment: &str) -> Result<()> {
        let output = self
            .tool
            .command()
            .env("KUBECTL_APPLYSET", "true")
            .args(["apply", "--server-side", "--field-manager=gitops", "--namespace", environment])
            .args(["--prune", "--applyset=configmaps/fleet", "-k"])
            .arg(self.repository.join(environment))
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// What a pull request would change of the objects in the cluster; empty if nothing.
    fn diff(&self, environment: &str) -> Result<String> {
        let folder = self.repository.join(environment);
        // As another manager than the tool: what the tool adds of its own, the list for prune, is no difference.
        let args = ["diff", "--server-side", "--field-manager=review", "--force-conflicts", "-k"];
        let output = self.tool.output(&[&args[..], &[&folder.to_string_lossy()]].concat(), None)?;
        ensure!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What the plan on a pull request would say: of the rendered manifests and the administrator's, without a cluster.
    fn plan(&self, environment: &str) -> Result<Ran> {
        let folder = self.repository.join(environment);
        let rendered = self.tool.run(&["kustomize", &folder.to_string_lossy()])?;
        plan(self.world.sandbox(), &format!("{BY_THE_ADMINISTRATOR}---\n{rendered}"))
    }

    fn binding(&self, environment: &str, name: &str) -> Result<Value> {
        let path =
            format!("/apis/instancerole.dev/v1alpha1/namespaces/{environment}/instancerolebindings/{name}");
        self.world.control_plane().api().get(&path)
    }

    /// Waits until kstatus, Flux and Argo CD conclude this, in this order.
    fn is(&self, environment: &str, name: &str, wanted: [&str; 3]) -> Result<Value> {
        eventually_ok(
            &format!("{environment}/{name} is {wanted:?}"),
            std::time::Duration::from_secs(60),
            || {
                let binding = self.binding(environment, name)?;
                let said = judge(&[&binding])?.remove(0);
                let is = ["kstatus", "flux", "argo"].map(|engine| said[engine].as_str().unwrap_or_default());
                ensure!(is == wanted, "{said}, {:#}", binding["status"]["conditions"]);
                Ok(binding)
            },
        )
    }

    fn changes(&self, instance: &str) -> Result<Vec<String>> {
        let writes = self.world.sandbox().writes_to(instance)?;
        Ok(writes.into_iter().filter(|call| call.result == "ok").map(|call| call.action).collect())
    }
}

const HEALTHY: [&str; 3] = ["Current", "Current", "Healthy"];
const COMING: [&str; 3] = ["InProgress", "InProgress", "Progressing"];
const FAILED: [&str; 3] = ["Failed", "Failed", "Degraded"];

fn arn(name: &str) -> Option<String> {
    Some(format!("arn:aws:iam::{ACCOUNT}:instance-profile/fleet/{name}"))
}

#[test]
fn from_the_first_commit_to_prune() -> Result<()> {
    let fleet = Fleet::new()?;
    let sandbox = fleet.world.sandbox();
    let [one, two, three] = [(); 3].map(|()| sandbox.instance("running", None));
    let (one, two, three) = (one?, two?, three?);

    // The first commit: both environments, from one base.
    fleet.write("base/kustomization.yaml", "resources: [web.yaml, batch.yaml]\n")?;
    fleet.write("base/web.yaml", WEB)?;
    fleet.write("base/batch.yaml", &WEB.replace("{name: web}\nspec", "{name: batch}\nspec"))?;
    fleet.environment(STAGING, &[("web", &one, "web"), ("batch", &two, "web")])?;
    fleet.environment(PRODUCTION, &[("web", &three, "web")])?;
    // Production has no batch.
    let overlay = fleet.repository.join(PRODUCTION).join("kustomization.yaml");
    let text = std::fs::read_to_string(&overlay)?;
    let without = "- patch: '{\"$patch\": \"delete\", \"apiVersion\": \"instancerole.dev/v1alpha1\", \"kind\": \"InstanceRoleBinding\", \"metadata\": {\"name\": \"batch\"}}'\n";
    std::fs::write(&overlay, text.replace("patches:\n", &format!("patches:\n{without}")))?;
    fleet.commit("Both environments")?;

    // While EC2 attaches, whoever waits for health waits.
    sandbox.settings(&json!({"associating_ms": 3_600_000}))?;
    fleet.sync(STAGING)?;
    fleet.sync(PRODUCTION)?;
    for (environment, name) in [(STAGING, "web"), (STAGING, "batch"), (PRODUCTION, "web")] {
        fleet.is(environment, name, COMING)?;
    }
    sandbox.post("clock", &json!({"advanceMs": 3_600_000}))?;
    sandbox.settings(&json!({"associating_ms": 50}))?;
    for (environment, name) in [(STAGING, "web"), (STAGING, "batch"), (PRODUCTION, "web")] {
        fleet.is(environment, name, HEALTHY)?;
        ensure!(fleet.diff(environment)?.is_empty(), "{environment}: the controller made no difference");
    }
    assert_eq!(sandbox.profile_of(&three)?, arn("web"));

    // A pull request that changes a profile in production. What it would change is seen before it is merged.
    fleet.git(&["switch", "--quiet", "--create", "web-v2"])?;
    std::fs::write(&overlay, std::fs::read_to_string(&overlay)?.replace("\"web\"}", "\"web-v2\"}"))?;
    fleet.commit("Production: web-v2")?;
    let diff = fleet.diff(PRODUCTION)?;
    ensure!(diff.contains("+    name: web-v2") && diff.contains("-    name: web"), "{diff}");
    let planned = fleet.plan(PRODUCTION)?.rows(2)?;
    assert_eq!(said(&planned), [["web", REPLACE, "Declared"]]);
    assert_eq!([&planned[0]["from"], &planned[0]["to"]], [&json!(arn("web")), &json!(arn("web-v2"))]);
    assert_eq!(said(&fleet.plan(STAGING)?.rows(0)?).len(), 2, "staging stays as it is");
    assert_eq!(sandbox.profile_of(&three)?, arn("web"), "looking changes nothing");
    fleet.git(&["switch", "--quiet", "main"])?;
    fleet.git(&["merge", "--quiet", "--no-ff", "--message", "Merge web-v2", "web-v2"])?;
    fleet.sync(PRODUCTION)?;
    fleet.is(PRODUCTION, "web", HEALTHY)?;
    assert_eq!(sandbox.profile_of(&three)?, arn("web-v2"));
    assert_eq!(said(&fleet.plan(PRODUCTION)?.rows(0)?), [["web", "None", "Associated"]], "done as planned");
    assert_eq!(fleet.changes(&three)?, [ASSOCIATE, REPLACE]);
    assert_eq!(sandbox.gaps(&three)?, [], "its workload had credentials all along");

    // A commit that reaches for more than the grant gives: it fails aloud, nothing is changed, and a revert heals it.
    std::fs::write(
        &overlay,
        std::fs::read_to_string(&overlay)?.replace("\"web-v2\"}", "\"administrator\"}"),
    )?;
    fleet.commit("Production: administrator")?;
    assert_eq!(said(&fleet.plan(PRODUCTION)?.rows(3)?), [["web", "Refuse", "NotAuthorized"]]);
    fleet.sync(PRODUCTION)?;
    let refused = fleet.is(PRODUCTION, "web", FAILED)?;
    assert_eq!(crate::stage::reason(&refused), "NotAuthorized");
    assert_eq!(sandbox.profile_of(&three)?, arn("web-v2"));
    fleet.git(&["revert", "--no-edit", "HEAD"])?;
    fleet.sync(PRODUCTION)?;
    fleet.is(PRODUCTION, "web", HEALTHY)?;
    assert_eq!(fleet.changes(&three)?, [ASSOCIATE, REPLACE], "nothing on the way");

    // Drift: somebody takes the profile off. It comes back, and the repository has nothing to do with it.
    sandbox.drift(&one, None)?;
    eventually_ok("the drift is repaired", std::time::Duration::from_secs(60), || {
        let found = sandbox.profile_of(&one)?;
        ensure!(found == arn("web"), "{found:?}");
        Ok(())
    })?;
    fleet.is(STAGING, "web", HEALTHY)?;
    ensure!(fleet.diff(STAGING)?.is_empty(), "no diff after drift");

    // Prune: what is gone from the repository goes from the cluster, and its profile from the instance.
    fleet.write("base/kustomization.yaml", "resources: [web.yaml]\n")?;
    std::fs::remove_file(fleet.repository.join("base/batch.yaml"))?;
    fleet.environment(STAGING, &[("web", &one, "web")])?;
    let kept = std::fs::read_to_string(&overlay)?.replace(without, "");
    std::fs::write(&overlay, kept)?;
    fleet.commit("No batch any more")?;
    fleet.sync(STAGING)?;
    eventually_ok("batch is let go", std::time::Duration::from_secs(60), || {
        let names = fleet.tool.run(&["get", "irb", "--namespace", STAGING, "-o", "name"])?;
        ensure!(names.trim() == "instancerolebinding.instancerole.dev/web", "{names}");
        Ok(())
    })?;
    assert_eq!(sandbox.profile_of(&two)?, None);
    assert_eq!(fleet.changes(&two)?, [ASSOCIATE, DISASSOCIATE]);
    fleet.is(STAGING, "web", HEALTHY)?;

    // The tool never had the right to more than bindings.
    for more in ["create instancerolegrants", "create pods", "get secrets"] {
        let args = [&["auth", "can-i"][..], &more.split(' ').collect::<Vec<_>>(), &["--namespace", STAGING]]
            .concat();
        let answer = fleet.tool.output(&args, None)?;
        assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "no", "{more}");
    }
    Ok(())
}
