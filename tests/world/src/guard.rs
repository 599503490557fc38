//! What this process started must not outlive it, whatever ends it: a panic, ctrl-c, SIGKILL.
//!
//! A destructor does not run on SIGKILL or for a static, and `PR_SET_PDEATHSIG` fires when the *thread* that
//! started a child ends, which in a test binary is long before the process does. So a small shell stands by,
//! reading orders from a pipe that only this process holds open. When the process is gone, however it went, the
//! pipe ends, and the shell kills what is still on its list and removes the folders.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};

/// Orders are lines: a word and its object. A pid stays in the table while it is watched, so what is killed at
/// the end is what was started here and not a later process of the same number.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
pids=' '
dirs=''
without() { printf '%s' "$1" | sed "s| $2 | |"; }
while read -r word object; do
  case $word in
    watch) pids="$pids$object " ;;
    forget) pids=$(without "$pids" "$object") ;;
    remove) dirs="$dirs$object
" ;;
    keep) dirs=$(printf '%s' "$dirs" | grep -vxF -- "$object")
      dirs="$dirs
" ;;
  esac
done
for pid in $pids; do kill -KILL "$pid"; done
for pid in $pids; do
  for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" && sleep 0.1 || break; done
done
printf '%s' "$dirs" | while read -r dir; do [ -n "$dir" ] && rm -rf -- "$dir"; done
"#;

static GUARD: OnceLock<Mutex<ChildStdin>> = OnceLock::new();

/// Starts the guard, if it does not stand yet. To be called before the first child is started.
pub(crate) fn stand_by() -> Result<()> {
    if GUARD.get().is_none() {
        let guard = start().context("cannot start the shell that kills test processes left behind")?;
        // Two threads may have started one each: the pipe of the second closes here and it ends, with nothing to do.
        drop(GUARD.set(Mutex::new(guard)));
    }
    Ok(())
}

fn start() -> Result<ChildStdin> {
    let mut shell = Command::new("sh")
        .args(["-c", SCRIPT, "world-guard"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A group of its own: ctrl-c on the terminal is not for it.
        .process_group(0)
        .spawn()?;
    shell.stdin.take().context("the shell has no standard input")
}

/// Kill this child when the process ends.
pub(crate) fn watch(pid: u32) {
    order("watch", &pid.to_string());
}

/// That child has ended.
pub(crate) fn forget(pid: u32) {
    order("forget", &pid.to_string());
}

/// Remove this folder when the process ends.
pub(crate) fn remove(dir: &Path) {
    order("remove", &dir.display().to_string());
}

/// Leave that folder in place, or it has been removed already.
pub(crate) fn keep(dir: &Path) {
    order("keep", &dir.display().to_string());
}

fn order(word: &str, object: &str) {
    if let Some(guard) = GUARD.get() {
        let mut pipe = guard.lock().unwrap_or_else(PoisonError::into_inner);
        // Should the guard itself have been killed, destructors still do their part.
        drop(writeln!(pipe, "{word} {object}"));
    }
}
