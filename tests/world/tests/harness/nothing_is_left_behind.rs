//! What the harness starts ends with it, even if it is killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use world::{ControlPlane, eventually};

/// Set for the copy of this test program that is to be killed.
const BE_THE_VICTIM: &str = "WORLD_TEST_BE_THE_VICTIM";

#[test]
fn everything_ends_when_the_test_process_is_killed() -> Result<()> {
    let (mut victim, scratch) = start_victim()?;
    assert_eq!(programs_in(&scratch)?, ["etcd", "kube-apiserver"]);

    victim.kill()?; // SIGKILL: no destructor runs
    victim.wait()?;
    eventually("etcd and kube-apiserver have ended", Duration::from_secs(10), || {
        programs_in(&scratch).ok()?.is_empty().then_some(())
    })?;
    eventually("their folder is gone", Duration::from_secs(10), || (!scratch.exists()).then_some(()))
}

/// The other half of the test above: does nothing unless it was started by it.
#[test]
fn the_victim_starts_a_control_plane_and_waits_for_its_end() -> Result<()> {
    if std::env::var_os(BE_THE_VICTIM).is_none() {
        return Ok(());
    }
    // In a thread that ends: what it started must stay while the process lives.
    let plane = std::thread::spawn(ControlPlane::shared).join().expect("the thread ends well")?;
    println!("\nscratch={}", plane.kubeconfig().parent().context("no folder")?.display());
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

fn start_victim() -> Result<(Child, PathBuf)> {
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--exact", "--nocapture"])
        .arg("nothing_is_left_behind::the_victim_starts_a_control_plane_and_waits_for_its_end")
        .env(BE_THE_VICTIM, "1")
        .env_remove("WORLD_KEEP")
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(victim.stdout.take().context("no standard output")?).lines();
    let told = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("scratch=").map(PathBuf::from));
    Ok((victim, told.context("the victim ended before it had a control plane")?))
}

/// The names of the running programs that were told to work in this folder.
fn programs_in(scratch: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let arguments = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        let program = Path::new(arguments.split('\0').next().unwrap_or_default());
        if arguments.contains(&*scratch.to_string_lossy()) {
            names.push(program.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
