//! Waiting for something to come true.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Looks again and again until there is an answer.
///
/// # Errors
/// There is none after `within`: "`what`: not within 5s (looked 71 times)".
pub fn eventually<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    eventually_ok(what, within, || look().ok_or(""))
}

/// Looks again and again until the answer is `Ok`. An `Err` says what was seen instead; the last one is told when
/// time is up.
///
/// # Errors
/// The answer is still `Err` after `within`.
pub fn eventually_ok<T, E: Display>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<T> {
    let started = Instant::now();
    for looks in 1_u32.. {
        let seen = match look() {
            Ok(answer) => return Ok(answer),
            Err(seen) => seen,
        };
        if started.elapsed() >= within {
            let seen = format!("{seen:#}");
            let seen = if seen.is_empty() { seen } else { format!("; the last look saw: {seen}") };
            bail!("{what}: not within {within:?} (looked {looks} times){seen}");
        }
        // Quick at first: most things are true soon. Slow later: looking costs the two cores that work needs.
        sleep(Duration::from_millis(u64::from(looks.min(10)) * 10));
    }
    bail!("{what}: looked four thousand million times")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_is_taken() {
        let mut looks = 0;
        let third = eventually("the third look", Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(third.unwrap(), 3);
    }

    #[test]
    fn a_failure_says_what_was_awaited_and_what_was_seen() {
        let never: Result<()> =
            eventually_ok("the binding is Ready", Duration::ZERO, || Err("reason InstancePending"));
        assert_eq!(
            never.unwrap_err().to_string(),
            "the binding is Ready: not within 0ns (looked 1 times); the last look saw: reason InstancePending"
        );
    }
}
