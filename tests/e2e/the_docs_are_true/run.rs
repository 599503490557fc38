//! A reader who does what a page says, in a clone of the repository, with a cluster and an AWS account of his own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use world::{ACCOUNT, Grants, REGION, World, WorldOptions, binary, repository, tool, venv_program};

use super::page::{Block, Class, Page};
use super::steady::steady;

/// Begins a line that tells which command of which block the lines after it are of.
const MARK: &str = "@@ ";

/// What the cluster of the tests lacks. Without pods the controller's log is a file; without the namespace controller
/// nobody else takes a namespace away that is to be deleted. A person is not as quick as a script: Events come a moment after the status.
const STAND_INS: &str = r#"
kubectl() {
  if [[ $1 == describe ]]; then sleep 2; fi
  if [[ " $* " == *" logs "* ]]; then cat "$CONTROLLER_LOG"; else command kubectl "$@"; fi
}
{
  while sleep 0.3; do
    for name in $(command kubectl get namespaces --field-selector=status.phase=Terminating -o name); do
      printf '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"%s"}}' "${name#namespace/}" |
        command kubectl replace --raw "/api/v1/namespaces/${name#namespace/}/finalize" -f -
    done
  done
} >/dev/null 2>&1 &
trap 'kill %1' EXIT
set -euo pipefail
"#;

/// Does what a page says; fails where a command fails, or prints something else than the page shows.
pub(super) fn follow(page: &Page) -> Result<()> {
    if !page.blocks.iter().any(|block| matches!(block.class, Class::Shell | Class::Session)) {
        return Ok(());
    }
    let here = page.path.display().to_string();
    let world = set_the_stage(page).with_context(|| format!("{here}: its stage"))?;
    let printed = run(&world, page).with_context(|| here.clone())?;
    let parts = printed.split(MARK).skip(1).filter_map(|part| part.split_once('\n'));
    let printed: Vec<(&str, &str)> = parts.collect();
    let mut wrong = Vec::new();
    for block in page.blocks.iter().filter(|block| block.class == Class::Session) {
        let is = session(block, &printed)?;
        if is == block.text {
            continue;
        }
        match std::env::var_os("UPDATE_DOCS") {
            Some(_) => rewrite(&page.path, block, &is)?,
            None => wrong.push(format!("{here}:{}: it is\n{is}", block.line)),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A world in which the controller is installed, and what the page presupposes.
fn set_the_stage(page: &Page) -> Result<World> {
    let world = World::new(WorldOptions {
        own_control_plane: true,
        controller_flags: vec!["--resync-interval=1s".to_owned()],
        grants: Grants::None,
        ..WorldOptions::default()
    })?;
    let sandbox = world.sandbox();
    for profile in page.stage["profiles"].as_array().into_iter().flatten() {
        let profile = if profile.is_string() { json!({"name": profile}) } else { profile.clone() };
        sandbox.add_profile(&profile)?;
    }
    for role in page.stage["roles"].as_array().into_iter().flatten() {
        sandbox.post("roles", role)?;
    }
    for (id, instance) in page.stage["instances"].as_object().into_iter().flatten() {
        let mut instance = instance.clone();
        instance["ids"] = json!([id]);
        sandbox.add_instances(&instance)?;
    }
    for object in page.stage["objects"].as_array().into_iter().flatten() {
        world.control_plane().apply(&object.to_string())?;
    }
    Ok(world)
}

/// All commands as one script, in a folder that holds what a clone does.
fn run(world: &World, page: &Page) -> Result<String> {
    let clone = world.scratch().join("clone");
    std::fs::create_dir(&clone)?;
    for part in ["deploy", "crds", "docs"] {
        let copied = Command::new("cp").arg("-r").arg(repository().join(part)).arg(&clone).status()?;
        ensure!(copied.success(), "{part} cannot be copied");
    }
    let mut script = STAND_INS.to_owned();
    for block in &page.blocks {
        if let Some(file) = &block.file {
            std::fs::write(clone.join(file), &block.text)?;
        }
        match block.class {
            Class::Shell => script += &format!("echo '{MARK}{}'\n{}", block.line, block.text),
            Class::Session => {
                for (number, command) in block.commands().iter().enumerate() {
                    script += &format!("echo '{MARK}{}.{number}'\n", block.line);
                    script += &match block.fails {
                        // What is to refuse it, such as a policy, may take a moment to be in force.
                        Some(meant) => format!(
                            "for _ in $(seq 20); do status=0; said=$({{ {command}\n}} 2>&1) || {{ status=$?; break; }}; sleep 0.5; done\n\
                             printf '%s\\n' \"$said\"\n[[ $status == {meant} ]] || {{ echo \"it ended with $status\" >&2; exit 1; }}\n"
                        ),
                        None => format!("{{ {command}\n}} 2>&1\n"),
                    };
                }
            }
            Class::Manifests | Class::File | Class::Json | Class::Text | Class::NotRun => {}
        }
    }
    bash(world, &script, &clone)
}

/// Runs a script with the reader's programs, cluster and account; returns what it printed.
fn bash(world: &World, script: &str, folder: &Path) -> Result<String> {
    let file = world.scratch().join("page.sh");
    std::fs::write(&file, script)?;
    let mut command = Command::new("timeout");
    world.sandbox().aws_env().as_user(ACCOUNT, "READER").apply_to(&mut command);
    let output = command
        .args(["900", "bash"])
        .arg(&file)
        .current_dir(folder)
        .env("PATH", path(world)?)
        .env("HOME", world.scratch().path())
        .env("KUBECONFIG", world.control_plane().kubeconfig())
        .env("CONTROLLER_LOG", world.controller()?.process().log())
        .envs([("ACCOUNT", ACCOUNT), ("REGION", REGION)])
        .stdin(Stdio::null())
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let place = printed.rsplit(MARK).next().unwrap_or_default();
        let words = String::from_utf8_lossy(&output.stderr);
        let log = world.controller()?.process().log_tail(10);
        bail!("{}, in the block of line {place}{words}\n{log}", output.status);
    }
    Ok(printed)
}

/// The folders of kubectl, aws, helm and the controller, before those of the machine.
fn path(world: &World) -> Result<String> {
    let controller = binary("instance-role-controller", "INSTANCE_ROLE_CONTROLLER_BIN")?;
    let programs =
        [world.control_plane().admin().program().to_owned(), venv_program("aws")?, tool("helm")?, controller];
    let folders: Vec<PathBuf> =
        programs.iter().filter_map(|program| program.parent()).map(Path::to_owned).collect();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&rest)))?;
    all.into_string().ok().context("a PATH that is no text")
}

/// The block as it must be: its commands, each with what it printed.
fn session(block: &Block, printed: &[(&str, &str)]) -> Result<String> {
    let commands = block.commands();
    let parts = commands.iter().enumerate().map(|(number, command)| {
        let place = format!("{}.{number}", block.line);
        let output = printed.iter().find(|(at, _)| *at == place).map_or("", |(_, text)| text);
        format!("$ {command}\n{output}")
    });
    steady(&parts.collect::<Vec<_>>().join(""))
}

/// Puts the block as it is into the page.
fn rewrite(page: &Path, block: &Block, is: &str) -> Result<()> {
    let file = repository().join(page);
    let text = std::fs::read_to_string(&file)?;
    ensure!(text.contains(&block.text), "the block of line {} is indented", block.line);
    std::fs::write(file, text.replacen(&block.text, is, 1))?;
    Ok(())
}

#[test]
fn a_command_that_fails_or_prints_something_else_is_found() -> Result<()> {
    let page = |class, text: &str, fails: Option<u8>| Page {
        path: PathBuf::from("docs/none.md"),
        stage: Value::Null,
        blocks: vec![Block { line: 7, class, text: text.to_owned(), file: None, fails }],
    };
    follow(&page(Class::Session, "$ kubectl get irb -A\nNo resources found\n", None))?;
    let failed = follow(&page(Class::Shell, "kubectl get irb no-such\n", None)).err().context("it fails")?;
    assert!(format!("{failed:#}").contains("line 7"), "{failed:#}");
    let other =
        follow(&page(Class::Session, "$ kubectl get irb -A\nNAME\n", None)).err().context("it differs")?;
    assert!(format!("{other:#}").contains("No resources found"), "{other:#}");
    let fails = |command: &str| follow(&page(Class::Session, &format!("$ {command}\nno\n"), Some(2)));
    fails("echo no; exit 2")?;
    for command in ["echo no", "echo no; exit 3"] {
        let error = fails(command).err().context("it does not fail so")?;
        assert!(format!("{error:#}").contains("it ended with"), "{error:#}");
    }
    Ok(())
}
