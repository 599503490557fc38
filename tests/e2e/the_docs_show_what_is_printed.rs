//! `docs/plan-and-export.md`: its manifests are written to files, its commands run, and what they print compared. `UPDATE_DOCS=1`
//! writes the page anew.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use world::{Sandbox, Scratch, binary, repository};

use crate::command::run;

/// The fleet of the page.
fn fleet() -> Result<Sandbox> {
    let sandbox = Sandbox::start()?;
    for profile in ["web", "old"] {
        sandbox.profile(profile)?;
    }
    let instances = [
        ("1", "running", None),
        ("2", "running", Some("old")),
        ("3", "stopped", Some("old")),
        ("4", "running", Some("web")),
    ];
    for (nth, state, profile) in instances {
        let tags = json!({"Name": format!("web-{nth}"), "team": if nth == "3" { "b" } else { "a" }});
        let id = format!("i-0a11ce0000000000{nth}");
        sandbox.add_instances(&json!({"ids": [id], "state": state, "profile": profile, "tags": tags}))?;
    }
    Ok(sandbox)
}

/// Runs the commands of a block; each with what it printed, on standard error first.
fn played(block: &str, folder: &Scratch, sandbox: &Sandbox) -> Result<String> {
    let (mut text, mut code) = (String::new(), 0);
    for command in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
        text.push_str(&format!("$ {command}\n"));
        if command == "echo $?" {
            text.push_str(&format!("{code}\n"));
            continue;
        }
        let program = binary("instance-role-controller", "INSTANCE_ROLE_CONTROLLER_BIN")?;
        let mut bash = Command::new("bash");
        sandbox.aws_env().apply_to(&mut bash).current_dir(folder.path());
        let shown = command.replacen("instance-role-controller", &program.display().to_string(), 1);
        let ran = run(&mut bash, &["-c", &shown], "")?;
        code = ran.code;
        text.push_str(&ran.told);
        text.push_str(&ran.out);
    }
    Ok(text)
}

#[test]
fn plan_and_export() -> Result<()> {
    let path = repository().join("docs/plan-and-export.md");
    let page = fs::read_to_string(&path)?;
    let (folder, sandbox) = (Scratch::new("docs")?, fleet()?);
    let mut parts = page.split("```");
    let mut fresh = parts.next().context("an empty page")?.to_owned();
    let mut commands = 0;
    while let (Some(block), Some(prose)) = (parts.next(), parts.next()) {
        let block = match block.split_once('\n') {
            Some(("yaml", manifest)) => {
                let file = manifest
                    .lines()
                    .next()
                    .and_then(|line| line.strip_prefix("# "))
                    .context("a manifest without a name")?;
                let file = folder.join(file);
                fs::create_dir_all(file.parent().context("no folder")?)?;
                fs::write(&file, manifest)?;
                block.to_owned()
            }
            Some(("console", commanded)) => {
                commands += 1;
                format!("console\n{}", played(commanded, &folder, &sandbox)?)
            }
            _ => block.to_owned(),
        };
        fresh.push_str(&format!("```{block}```{prose}"));
    }
    ensure!(commands >= 4, "the page shows {commands} commands");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &fresh)?;
    }
    let shown: Vec<&str> = page.lines().filter(|line| !fresh.lines().any(|other| other == *line)).collect();
    ensure!(
        page == fresh || std::env::var_os("UPDATE_DOCS").is_some(),
        "UPDATE_DOCS=1 writes it anew; not printed: {shown:#?}\n{fresh}"
    );
    let writes: Vec<_> = sandbox.calls_since(0)?.into_iter().filter(world::Call::is_write).collect();
    assert_eq!(writes, []);
    Ok(())
}
