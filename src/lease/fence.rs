//! The fence before every write: open while this process leads, and not a moment longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::{Clock, Moment};

/// Nothing was sent: this process does not lead, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not sent: this process does not lead")]
pub struct Closed;

/// One time of leading. It ends by the clock, also while whoever should renew it hangs; a fence that was closed is never
/// open again, so what belongs to an earlier time of leading cannot slip into a later one.
#[derive(Debug, Clone)]
pub struct Fence {
    /// Nanoseconds of the clock before which it is open; 0: closed for good.
    until: Arc<AtomicU64>,
    clock: Clock,
}

impl Fence {
    /// Open until this moment, or until it is extended.
    pub fn open_until(until: Moment, clock: Clock) -> Self {
        Self { until: Arc::new(AtomicU64::new(nanoseconds(until))), clock }
    }

    /// Never open: nobody leads.
    pub fn closed() -> Self {
        Self::open_until(Moment::ZERO, Clock::Boot)
    }

    /// Always open: for a process that runs alone.
    pub fn always() -> Self {
        Self { until: Arc::new(AtomicU64::new(u64::MAX)), clock: Clock::Boot }
    }

    /// Whether a write may be begun now.
    ///
    /// # Errors
    /// It is closed.
    pub fn check(&self) -> Result<(), Closed> {
        let until = self.until.load(Ordering::SeqCst);
        if nanoseconds(self.clock.now()) < until { Ok(()) } else { Err(Closed) }
    }

    /// Whether a write may be begun now.
    pub fn is_open(&self) -> bool {
        self.check().is_ok()
    }

    /// Whether both are the same time of leading.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.until, &other.until)
    }

    /// Moves the end; one that is closed stays closed.
    pub(super) fn extend(&self, until: Moment) {
        let open = |before| (before != 0).then(|| nanoseconds(until));
        // It fails only for one that is closed.
        let _ = self.until.fetch_update(Ordering::SeqCst, Ordering::SeqCst, open);
    }

    /// Closes it for good.
    pub(super) fn close(&self) {
        self.until.store(0, Ordering::SeqCst);
    }
}

fn nanoseconds(moment: Moment) -> u64 {
    u64::try_from(moment.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_closes_by_time_alone_and_for_good_once_it_was_closed() {
        let clock = Clock::Tokio(tokio::time::Instant::now());
        let fence = Fence::open_until(Duration::from_secs(10), clock);
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(fence.check(), Ok(()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(fence.check(), Err(Closed));
        fence.extend(Duration::from_secs(20));
        assert!(fence.is_open());
        fence.close();
        fence.extend(Duration::from_secs(40));
        assert!(!fence.is_open());
    }

    #[test]
    fn who_runs_alone_may_always_write() {
        assert!(Fence::always().is_open());
    }
}
