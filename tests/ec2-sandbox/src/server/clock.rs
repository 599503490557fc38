//! The one place that looks at a clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::Millis;

/// A clock that never goes back, and can be put forward.
#[derive(Debug)]
pub(crate) struct Clock {
    epoch: Millis,
    started: Instant,
    ahead: AtomicU64,
}

impl Clock {
    pub fn new() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self { epoch: as_millis(epoch), started: Instant::now(), ahead: AtomicU64::new(0) }
    }

    pub fn now(&self) -> Millis {
        self.epoch + as_millis(self.started.elapsed().as_millis()) + self.ahead.load(Ordering::SeqCst)
    }

    pub fn advance(&self, by: Millis) {
        self.ahead.fetch_add(by, Ordering::SeqCst);
    }
}

fn as_millis(value: u128) -> Millis {
    Millis::try_from(value).unwrap_or(Millis::MAX)
}
