//! A child process: its log file, its signals, its end.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::guard;

/// A running program. It is killed when this is dropped, and when this process ends in any way.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    child: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; both its outputs are added to the file `log`.
    ///
    /// # Errors
    /// The program does not exist or cannot be started.
    pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        guard::stand_by()?;
        let out = File::options()
            .append(true)
            .create(true)
            .open(log)
            .with_context(|| format!("cannot write the log file {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            // A group of its own, so that ctrl-c on the terminal reaches us and not all of it at once.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().to_string_lossy()))?;
        let pid = child.id();
        guard::watch(pid);
        Ok(Self {
            name: name.to_owned(),
            pid,
            log: log.to_owned(),
            child: Mutex::new(Watched { child, ended: None }),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file that holds what it printed.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        let mut watched = self.watched();
        if watched.ended.is_none() {
            watched.ended = watched.child.try_wait()?;
            if watched.ended.is_some() {
                guard::forget(self.pid);
            }
        }
        Ok(watched.ended)
    }

    /// Fails with the end of its log if it has ended.
    ///
    /// # Errors
    /// It has ended.
    pub fn still_runs(&self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status})\n{}", self.name, self.log_tail(30)),
        }
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// It is still there after `within`; it is killed then.
    pub fn terminate(&self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.kill()?;
                bail!("{} did not stop within {within:?} of SIGTERM\n{}", self.name, self.log_tail(30));
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Ends it at once (SIGKILL).
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn kill(&self) -> Result<()> {
        let mut watched = self.watched();
        if watched.ended.is_none() {
            watched.child.kill()?;
            watched.ended = Some(watched.child.wait()?);
            guard::forget(self.pid);
        }
        Ok(())
    }

    /// Stops it in its tracks (SIGSTOP): it lives, holds its connections, and does nothing.
    ///
    /// # Errors
    /// It has ended.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    /// It has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.still_runs()?;
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("a pid out of range")?;
        kill_process(pid, signal).with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }

    /// Everything it has printed so far.
    pub fn printed(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last `lines` lines of its log, under a heading that names the file.
    pub fn log_tail(&self, lines: usize) -> String {
        let printed = self.printed();
        let all: Vec<&str> = printed.lines().collect();
        let tail = all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n");
        format!("--- last lines of {} ({}):\n{tail}\n---", self.name, self.log.display())
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(dir: &Path, script: &str) -> Process {
        Process::spawn("script", Command::new("sh").args(["-c", script]), &dir.join("log")).unwrap()
    }

    #[test]
    fn a_process_that_ended_is_told_with_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let process = shell(dir.path(), "for i in 1 2 3; do echo line $i; done; exit 7");
        while process.ended().unwrap().is_none() {
            sleep(Duration::from_millis(2));
        }
        let told = process.still_runs().unwrap_err().to_string();
        assert!(told.contains("exit status: 7") && told.ends_with("line 1\nline 2\nline 3\n---"), "{told}");
        assert!(process.log_tail(1).contains("):\nline 3\n"), "{}", process.log_tail(1));
    }

    #[test]
    fn sigterm_is_a_request_with_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let polite = shell(dir.path(), "trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done");
        let deaf = shell(dir.path(), "trap '' TERM; echo up; while :; do sleep 0.01; done");
        while polite.printed().lines().count() < 2 {
            sleep(Duration::from_millis(2));
        }
        assert_eq!(polite.terminate(Duration::from_secs(5)).unwrap().code(), Some(3));
        let told = deaf.terminate(Duration::from_millis(50)).unwrap_err().to_string();
        assert!(told.contains("did not stop within 50ms"), "{told}");
        assert!(deaf.ended().unwrap().is_some());
    }

    #[test]
    fn a_paused_process_does_nothing_until_it_is_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let process = shell(dir.path(), "while :; do echo tick; sleep 0.01; done");
        process.pause().unwrap();
        sleep(Duration::from_millis(20));
        let before = process.printed().len();
        sleep(Duration::from_millis(60));
        assert_eq!(process.printed().len(), before);
        process.resume().unwrap();
        while process.printed().len() == before {
            sleep(Duration::from_millis(2));
        }
    }
}
