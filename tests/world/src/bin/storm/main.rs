//! Storm after storm, for as long as one likes: `make storm HOURS=1`, or one again: `make storm SEED=7`.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use world::Storm;

/// How long each blows and may take to calm.
const BLOWS: Duration = Duration::from_secs(60);
const CALMS_WITHIN: Duration = Duration::from_secs(180);

fn main() -> ExitCode {
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let number = |name: &str| given(name).and_then(|value| value.parse::<f64>().ok());
    let one = given("SEED").and_then(|seed| seed.parse::<u64>().ok());
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs());
    let hours = number("HOURS").unwrap_or(0.0);
    let blows = number("BLOWS").map_or(BLOWS, Duration::from_secs_f64);
    let (began, mut rounds, mut broken) = (Instant::now(), 0_u64, Vec::new());
    loop {
        let seed = one.unwrap_or(clock).wrapping_add(rounds);
        rounds += 1;
        match (Storm { seed, blows, calms_within: CALMS_WITHIN }).blow() {
            Ok(summary) => println!("{rounds}: {summary}"),
            Err(error) => {
                println!("{rounds}: BROKEN: {error:#}");
                broken.push(seed);
            }
        }
        if began.elapsed().as_secs_f64() >= hours * 3600.0 {
            break;
        }
    }
    println!(
        "{rounds} storms in {:.0} s, {} broken: {broken:?}",
        began.elapsed().as_secs_f64(),
        broken.len()
    );
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
