//! The examples for GitHub and GitLab: their scripts are run as they stand, with stand-ins for `docker`, `gh` and `curl`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use world::{Sandbox, Scratch, binary, repository};

use crate::command::{Ran, manifest, run};

fn example(name: &str) -> Result<Value> {
    let path = repository().join("docs/plan-in-ci").join(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_yaml::from_str(&text)?)
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A folder with a repository's manifests and the programs that scripts call.
struct Runner {
    folder: Scratch,
    sandbox: Sandbox,
}

impl Runner {
    fn new(profile: &str) -> Result<Self> {
        let (folder, sandbox) = (Scratch::new("runner")?, Sandbox::start()?);
        sandbox.profile("app")?;
        let i = sandbox.instance("running", None)?;
        fs::create_dir_all(folder.join("manifests"))?;
        fs::create_dir_all(folder.join("bin"))?;
        fs::write(folder.join("manifests/web.yaml"), manifest("web", &i, &format!("{{name: {profile}}}")))?;
        let program = binary("instance-role-controller", "INSTANCE_ROLE_CONTROLLER_BIN")?;
        // What stands after the image's name is given to the program.
        let docker = format!(
            "#!/bin/bash\nwhile [ \"$1\" != \"$IMAGE\" ]; do shift; done; shift\nexec {} \"$@\"\n",
            program.display()
        );
        put(&folder.join("bin/docker"), &docker)?;
        put(&folder.join("bin/gh"), "#!/bin/bash\nprintf '%s\\n' \"$*\" > called; cp plan.md commented\n")?;
        put(&folder.join("bin/curl"), "#!/bin/bash\nprintf '%s\\n' \"$*\" > called; cp plan.md commented\n")?;
        fs::copy(&program, folder.join("instance-role-controller"))?;
        Ok(Self { folder, sandbox })
    }

    fn bash(&self, script: &str, variables: &Value) -> Result<Ran> {
        let mut command = Command::new("bash");
        self.sandbox.aws_env().apply_to(&mut command);
        let path =
            format!("{}:{}", self.folder.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        command
            .current_dir(self.folder.path())
            .env("PATH", path)
            .env("MANIFESTS", "manifests")
            .env("IMAGE", "image");
        for (name, value) in variables.as_object().into_iter().flatten() {
            command.env(name, value.as_str().unwrap_or_default());
        }
        run(&mut command, &["-e", "-c", script], "")
    }

    fn commented(&self) -> Result<String> {
        fs::read_to_string(self.folder.join("commented")).context("nothing was commented")
    }
}

#[test]
fn on_github() -> Result<()> {
    let workflow = example("github.yaml")?;
    // YAML 1.1 reads a bare `on` as true; GitHub does not.
    ensure!(workflow["on"]["pull_request"]["paths"][0] == "manifests/**", "{workflow:#}");
    assert_eq!(
        workflow["permissions"],
        json!({"contents": "read", "id-token": "write", "pull-requests": "write"})
    );
    let steps = workflow["jobs"]["plan"]["steps"].as_array().context("no steps")?.clone();
    let script = |name: &str| {
        let step = steps.iter().find(|step| step["name"] == name);
        step.and_then(|step| step["run"].as_str()).with_context(|| name.to_owned())
    };
    for (profile, code, said, passes) in [
        ("app", "2", "1 to associate", true),
        ("nowhere", "3", "1 refused", false),
        ("a/b", "3", "1 refused", false),
    ] {
        let runner = Runner::new(profile)?;
        let output = runner.folder.join("output").display().to_string();
        let summary = runner.folder.join("summary").display().to_string();
        let variables = json!({"GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": summary});
        runner.bash(script("plan")?, &variables)?.printed(0)?;
        assert_eq!(fs::read_to_string(&output)?, format!("code={code}\n"));
        runner
            .bash(script("comment")?, &json!({"PULL_REQUEST": "7", "GITHUB_REPOSITORY": "o/r"}))?
            .printed(0)?;
        let comment = runner.commented()?;
        assert!(comment.starts_with(&format!("### Instance profiles: {said}\n")), "{comment}");
        assert_eq!(runner.bash(script("verdict")?, &json!({"CODE": code}))?.code == 0, passes);
    }
    let runner = Runner::new("app")?;
    let output = runner.folder.join("output").display().to_string();
    let variables = json!({"GITHUB_OUTPUT": output, "GITHUB_STEP_SUMMARY": "/dev/null", "AWS_REGION": ""});
    runner.bash(script("plan")?, &variables)?.printed(0)?;
    assert_eq!(fs::read_to_string(&output)?, "code=1\n");
    assert!(
        fs::read_to_string(runner.folder.join("plan.md"))?.contains("AWS_REGION"),
        "what was in the way is told"
    );
    assert_ne!(runner.bash(script("verdict")?, &json!({"CODE": "1"}))?.code, 0);
    Ok(())
}

#[test]
fn on_gitlab() -> Result<()> {
    let pipeline = example("gitlab.yaml")?;
    let job = &pipeline["plan"];
    assert_eq!(job["allow_failure"]["exit_codes"], json!([2]));
    assert_eq!(job["needs"], json!(["plan-program"]));
    let script = job["script"][0].as_str().context("no script")?;
    for (profile, code, said) in [("app", 2, "1 to associate"), ("nowhere", 3, "1 refused")] {
        let runner = Runner::new(profile)?;
        let variables = json!({
            "PLAN_TOKEN": "secret", "CI_API_V4_URL": "https://gitlab.example/api/v4", "CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "7",
        });
        let ran = runner.bash(script, &variables)?;
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(runner.commented()?.starts_with(&format!("### Instance profiles: {said}\n")));
        let called = fs::read_to_string(runner.folder.join("called"))?;
        assert!(
            called.trim_end().ends_with("https://gitlab.example/api/v4/projects/1/merge_requests/7/notes"),
            "{called}"
        );
    }
    Ok(())
}
