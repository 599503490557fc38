//! `kubectl get --watch`, its lines put on the screen as they come.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use world::{Process, World};

use crate::samples::NAMESPACE;
use crate::screen::Screen;

/// The columns of `kubectl get irb` that change, so that a line has room for what is told.
const COLUMNS: &str = "-o=custom-columns=NAME:.metadata.name,PROFILE:.status.profile,\
                       READY:.status.conditions[?(@.type==\"Ready\")].status,\
                       STATUS:.status.conditions[?(@.type==\"Ready\")].message";

/// A `kubectl get irb --watch` that runs. It ends when this is dropped.
///
/// Lines that repeat the last one of their binding, or tell of no status yet, are left out.
#[derive(Debug)]
pub struct Watch<'w> {
    screen: &'w Screen,
    process: Process,
    started: Instant,
    read: Cell<usize>,
    shown: RefCell<BTreeMap<String, String>>,
}

impl<'w> Watch<'w> {
    /// Watches one binding, or all.
    pub fn start(world: &World, screen: &'w Screen, binding: Option<&str>) -> Result<Self> {
        let mut args = vec!["get", "irb"];
        args.extend(binding);
        args.extend(["-n", NAMESPACE, "--watch"]);
        screen.command(&format!("kubectl {} -o=custom-columns=…", args.join(" ")));
        args.push(COLUMNS);
        let log = world.scratch().join(&format!("watch-{}.log", screen.elapsed().as_millis()));
        let mut command = world.control_plane().admin().command();
        let process = Process::spawn("kubectl", command.args(&args), &log)?;
        Ok(Self { screen, process, started: Instant::now(), read: Cell::new(0), shown: RefCell::default() })
    }

    /// Shows what comes until `reached`, or until time is up. Returns which.
    pub fn until(&self, within: Duration, mut reached: impl FnMut() -> Result<bool>) -> Result<bool> {
        let deadline = Instant::now() + within;
        loop {
            self.show();
            if reached()? {
                std::thread::sleep(Duration::from_millis(150)); // its last line is on its way
                self.show();
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Shows for a moment what is there at the start.
    pub fn settle(&self) -> Result<bool> {
        self.until(Duration::from_secs(10), || Ok(self.process.printed().lines().count() > 1))
    }

    fn show(&self) {
        let printed = self.process.printed();
        let whole = printed.rfind('\n').map_or("", |end| &printed[..=end]);
        for line in whole.lines().skip(self.read.get()) {
            self.read.set(self.read.get() + 1);
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_mute = words.get(2).is_some_and(|ready| *ready == "<none>");
            let name = words.first().copied().unwrap_or_default().to_owned();
            let last = self.shown.borrow_mut().insert(name, words.join(" "));
            if !is_mute && last.is_none_or(|last| last != words.join(" ")) {
                let at = self.started.elapsed().as_secs_f64();
                self.screen.output(&format!("{at:5.1}s  {line}"));
            }
        }
    }
}
