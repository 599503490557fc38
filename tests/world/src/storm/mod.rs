//! A storm: everything that may happen happens at random for a while, then it is calm, and then it is judged.
//!
//! Two replicas of the controller with short terms, a few dozen instances and bindings, an EC2 that lags, throttles and lies late,
//! an API server that comes and goes, people who edit, outsiders who interfere. What is done follows from a seed, so
//! that a storm can be called up again; what the threads and processes of the machine make of it does not.
//!
//! Judged is by what EC2 truly holds, by its journal, and by the audit log of the API server (`judge`).

mod cast;
mod deeds;
mod judge;
mod replicas;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;

use crate::together::{World, WorldOptions};
use cast::Cast;
use replicas::Replicas;

/// How a storm is to be.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    /// What it follows from.
    pub seed: u64,
    /// How long it blows.
    pub blows: Duration,
    /// How long it may take until all is as declared, once it is calm.
    pub calms_within: Duration,
}

/// What was there to be judged.
#[derive(Debug, Default)]
pub struct Log {
    /// Moments and what was done then, in milliseconds since 1970.
    pub deeds: Vec<(u64, String)>,
    /// When a grant of the fickle namespace was taken away, and when it was there again.
    revoked: Vec<(u64, Option<u64>)>,
}

impl Storm {
    /// Lets it blow and judges. What there is to tell of it, in one line.
    ///
    /// # Errors
    /// A promise is broken; which, where, and all that was done there is told. Or the world cannot be made, or does not go on.
    pub fn blow(&self) -> Result<String> {
        let Self { seed, blows, calms_within } = *self;
        self.told(seed, blows, calms_within).with_context(|| format!("storm SEED={seed}"))
    }

    fn told(&self, seed: u64, blows: Duration, calms_within: Duration) -> Result<String> {
        let mut rng = Rng::with_seed(seed);
        let world = World::new(WorldOptions {
            own_control_plane: true,
            without_controller: true,
            sandbox_flags: vec![format!("--set=seed={}", seed.max(1))],
            ..WorldOptions::default()
        })?;
        let mut log = Log::default();
        let mut cast = Cast::gather(&world, &mut rng)?;
        let mut replicas = Replicas::start(&world)?;
        let began = Instant::now();
        while began.elapsed() < blows {
            deeds::one(&world, &mut cast, &mut replicas, &mut rng, &mut log)?;
            std::thread::sleep(Duration::from_millis(rng.u64(20..400)));
        }
        deeds::calm(&world, &mut cast, &mut replicas, &mut log)?;
        let verdict = judge::judge(&world, &cast, &replicas, &log, calms_within);
        let summary = verdict.map_err(|error| error.context(replicas.log_tails()))?;
        Ok(format!("seed {seed}: {} deeds in {:?}; {summary}", log.deeds.len(), blows))
    }
}

/// Now, in milliseconds since 1970.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
