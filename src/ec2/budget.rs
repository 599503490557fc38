//! Token buckets: how many calls EC2 takes, and our share of them.
//!
//! EC2 counts each operation by itself, per account and Region, whoever calls (`aws-semantics` 2). Time is an
//! argument, so that tests need not wait.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The size and refill of one of EC2's buckets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// How many calls may come at once.
    pub burst: f64,
    /// How many calls per second after that.
    pub per_second: f64,
}

impl Limit {
    /// Associate and Disassociate, "uncategorized" in EC2's table: 100 and 5/s each.
    pub const ASSOCIATE: Self = Self { burst: 100.0, per_second: 5.0 };
    /// Replace, "mutating" in EC2's table: 50 and 5/s.
    pub const REPLACE: Self = Self { burst: 50.0, per_second: 5.0 };
    /// Describe calls with filters or pages: 100 and 20/s.
    pub const DESCRIBE: Self = Self { burst: 100.0, per_second: 20.0 };

    /// A share of the limit, at least one call. Of a burst two calls in a hundred are left: calls arrive less evenly than
    /// they are sent, and each that EC2 throttles costs more than it would have brought.
    pub fn share(self, share: f64) -> Self {
        let burst = (self.burst * share * MARGIN).floor().max(1.0);
        Self { burst, per_second: (self.per_second * share).max(0.01) }
    }
}

/// The part of a burst that is used.
const MARGIN: f64 = 0.98;

/// A bucket of tokens. A throttle from EC2 empties it and halves its rate, which climbs back within a minute.
///
/// EC2's bucket is full until the first call arrives: between a turn and its call nothing flows in there. So a token may be
/// set aside first, and is gone when the call has ended.
#[derive(Debug, Clone)]
pub struct Bucket {
    limit: Limit,
    rate: f64,
    /// As EC2 has it, with what is set aside.
    tokens: f64,
    filled: Instant,
    /// When tokens were set aside, oldest first.
    aside: VecDeque<Instant>,
    /// When a throttle last halved the rate.
    halved: Option<Instant>,
}

/// What was set aside for so long has been spent, whatever became of it.
const ASIDE: Duration = Duration::from_secs(60);

/// The rate never falls below this share of the limit's: somebody else may spend all there is for a while.
const FLOOR: f64 = 1.0 / 16.0;
/// Throttles within this time are one: the calls were under way together.
const TOGETHER: Duration = Duration::from_secs(1);
/// How fast the rate climbs back, in shares of the limit's rate per second.
const CLIMB: f64 = 1.0 / 60.0;

impl Bucket {
    /// A full bucket.
    pub fn new(limit: Limit, now: Instant) -> Self {
        let (rate, tokens, aside) = (limit.per_second, limit.burst, VecDeque::new());
        Self { limit, rate, tokens, filled: now, aside, halved: None }
    }

    /// Takes a token, or says how long until there is one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.set_aside(now)?;
        self.aside.pop_back();
        self.tokens -= 1.0;
        Ok(())
    }

    /// Sets a token aside for a call that is to be made, or says how long until there is one.
    pub fn set_aside(&mut self, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        let free = self.tokens - self.aside.len() as f64;
        if free >= 1.0 {
            self.aside.push_back(now);
            return Ok(());
        }
        Err(Duration::from_secs_f64(((1.0 - free) / self.rate).clamp(0.001, 3600.0)))
    }

    /// The call has ended for which a token was set aside.
    pub fn spend(&mut self, now: Instant) {
        self.fill(now);
        if self.aside.pop_front().is_some() {
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
    }

    /// The call is not made for which a token was set aside.
    pub fn give_back(&mut self) {
        self.aside.pop_back();
    }

    /// EC2 throttled: its bucket is empty, so ours is, and somebody spends more than we knew.
    pub fn throttled(&mut self, now: Instant) {
        self.fill(now);
        self.tokens = 0.0;
        if self.halved.is_some_and(|at| now.saturating_duration_since(at) < TOGETHER) {
            return;
        }
        self.halved = Some(now);
        self.rate = (self.rate / 2.0).max(self.limit.per_second * FLOOR);
    }

    /// Whether a throttle still holds the rate down.
    pub fn is_throttled(&self) -> bool {
        self.rate < self.limit.per_second
    }

    /// How many tokens come within this time at the present rate, rounded up.
    pub fn refill(&self, time: Duration) -> usize {
        let tokens = (time.as_secs_f64() * self.rate).ceil();
        if tokens.is_finite() && tokens > 0.0 { tokens as usize } else { 0 }
    }

    /// The share of the bucket that is filled.
    pub fn free(&mut self, now: Instant) -> f64 {
        self.fill(now);
        (self.tokens - self.aside.len() as f64).max(0.0) / self.limit.burst
    }

    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + seconds * self.rate).min(self.limit.burst);
        self.rate = (self.rate + seconds * self.limit.per_second * CLIMB).min(self.limit.per_second);
        while self.aside.front().is_some_and(|at| now.saturating_duration_since(*at) > ASIDE) {
            self.aside.pop_front();
            self.tokens = (self.tokens - 1.0).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Limit { burst: 3.0, per_second: 2.0 }, start);
        assert_eq!((0..5).filter(|_| bucket.take(start).is_ok()).count(), 3);
        let wait = bucket.take(start).unwrap_err();
        assert!((wait.as_secs_f64() - 0.5).abs() < 0.01);
        assert_eq!((0..5).filter(|_| bucket.take(start + SECOND).is_ok()).count(), 2);
    }

    #[test]
    fn nothing_flows_into_a_full_bucket_while_calls_are_on_their_way() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Limit { burst: 3.0, per_second: 1.0 }, start);
        assert_eq!((0..5).filter(|_| bucket.set_aside(start).is_ok()).count(), 3);
        // EC2 has seen no call yet, so its bucket is as full as it gets.
        let late = start + 10 * SECOND;
        assert!(bucket.set_aside(late).is_err());
        bucket.give_back();
        assert!(bucket.set_aside(late).is_ok(), "what is not used is there again");
        (0..3).for_each(|_| bucket.spend(late));
        assert!(bucket.set_aside(late).is_err());
        assert!(bucket.set_aside(late + SECOND).is_ok());
        // Nobody says what became of that one.
        assert_eq!((0..5).filter(|_| bucket.set_aside(late + 90 * SECOND).is_ok()).count(), 2);
    }

    #[test]
    fn a_throttle_empties_it_and_it_climbs_back() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Limit { burst: 10.0, per_second: 4.0 }, start);
        bucket.throttled(start);
        assert!(bucket.take(start).is_err() && bucket.is_throttled());
        for _ in 0..20 {
            bucket.throttled(start);
        }
        assert!(bucket.take(start + 4 * SECOND).is_ok(), "the rate has a floor");
        bucket.free(start + 90 * SECOND);
        assert!(!bucket.is_throttled());
    }

    #[test]
    fn a_share_is_at_least_one_call() {
        assert_eq!(Limit::REPLACE.share(0.5), Limit { burst: 24.0, per_second: 2.5 });
        assert_eq!(Limit::ASSOCIATE.share(1.0).burst, 98.0);
        assert_eq!(Limit::REPLACE.share(0.001).burst, 1.0);
    }
}
