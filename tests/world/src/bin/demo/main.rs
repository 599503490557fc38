//! `make demo`: every case of attach, replace and detach, shown as it happens, and verified.
//!
//! A real API server, the controller as its own service account, and the EC2 sandbox. What `kubectl` and `aws` print
//! is what they print. What is claimed comes from the sandbox's journal and its truth, never from the controller; the
//! program ends with 0 only if each row came out as it should. With `KEEP=1` all of it stays up until ctrl-c.
//!
//! - `story`: the ten steps, in order. Begin there.
//! - `trial`: what a row must come to, and what it came to. `ledger`: the rows so far, and the summary.
//! - `samples`, `stage`: the manifests of `deploy/samples`, and the EC2 that they start from.
//! - `watch`, `screen`: `kubectl get --watch` as it prints; what goes to the terminal.
//! - `keep`: how to play with it afterwards.

mod keep;
mod ledger;
mod samples;
mod screen;
mod stage;
mod story;
mod trial;
mod watch;

use std::process::ExitCode;

use anyhow::Result;

use screen::Screen;
use story::Story;

fn main() -> ExitCode {
    let keep = std::env::var("KEEP").is_ok_and(|value| !value.is_empty() && value != "0");
    match run(keep) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nthe demo broke off: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether each row came out right.
fn run(keep: bool) -> Result<bool> {
    let screen = Screen::new(story::STEPS);
    let mut story = Story::begin(&screen)?;
    let told = story.tell();
    if let Err(error) = &told {
        screen.bad(&format!("the story broke off: {error:#}"));
    }
    let right = story.summary()? && told.is_ok();
    if keep {
        keep::keep(&screen, story.world())?;
    }
    Ok(right)
}
