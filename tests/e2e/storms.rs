//! A short storm. Longer ones: `make storm HOURS=1`; the same one again: `SEED=…`.

use std::time::Duration;

use anyhow::Result;
use world::Storm;

#[test]
fn after_a_storm_all_is_as_declared_and_nothing_was_ever_unsafe() -> Result<()> {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20);
    println!("SEED={seed}");
    let storm = Storm { seed, blows: Duration::from_secs(20), calms_within: Duration::from_secs(180) };
    println!("{}", storm.blow()?);
    Ok(())
}
