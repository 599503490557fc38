//! The time that leadership is measured by: it goes on while the process is stopped and while the machine sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment: so long after some moment in the past that is the same for the whole process.
pub type Moment = Duration;

/// macOS has no clock of this name; its monotonic clock goes on while the machine sleeps.
#[cfg(target_os = "linux")]
const BOOT: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const BOOT: ClockId = ClockId::Monotonic;

/// Tells moments.
#[derive(Debug, Clone)]
pub enum Clock {
    /// CLOCK_BOOTTIME.
    Boot,
    /// The time of tokio, which tests pause.
    #[cfg(test)]
    Tokio(tokio::time::Instant),
}

impl Clock {
    /// The moment that it is now.
    pub fn now(&self) -> Moment {
        match self {
            Self::Boot => {
                let now = clock_gettime(BOOT);
                let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
                Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
            }
            #[cfg(test)]
            Self::Tokio(began) => began.elapsed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on() {
        let before = Clock::Boot.now();
        std::thread::sleep(Duration::from_millis(2));
        assert!(Clock::Boot.now() >= before + Duration::from_millis(2));
    }
}
