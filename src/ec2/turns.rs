//! Whose turn it is to write: a queue before each write bucket.
//!
//! A waiting change holds no worker: it is told when its turn has come and decides anew, so nothing outdated
//! is ever written. Turns go round the namespaces. Second halves of swaps go first, but leave a quarter of the tokens to
//! the others; among those, what people asked for comes before drift, which gets at least a quarter of theirs. So nobody
//! starves others by edits in a loop.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::budget::{Bucket, Limit};

/// How urgent a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The second half of a swap: the instance is without a profile.
    SecondHalf,
    /// An edit or a deletion: somebody waits for it.
    Asked,
    /// The repair of what somebody changed.
    Drift,
}

/// An unused turn is given back after this time.
const TURN: Duration = Duration::from_secs(30);
/// One token in so many goes to drift, where drift waits.
const DRIFT_EVERY: u32 = 4;
/// One token in so many goes to others than second halves, where others wait.
const OTHERS_EVERY: u32 = 4;

/// The queue before one bucket. `G` is the group that turns go round (a namespace), `K` the one that waits.
#[derive(Debug)]
pub struct Turns<G, K> {
    bucket: Bucket,
    groups: VecDeque<(G, Lane<K>)>,
    waiting: HashMap<K, Place<G>>,
    granted: HashMap<K, (Place<G>, Instant)>,
    /// Who lost a turn by no fault of its own, and how many in a row.
    lost: HashMap<K, u32>,
    /// The numbers of the first place and of the last one that were given out: a line is in their order, and no two are the
    /// same.
    first: i64,
    last: i64,
    since_drift: u32,
    seconds_in_a_row: u32,
}

/// A place in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place<G> {
    group: G,
    class: Class,
    number: i64,
}

/// Those of one class in one group that wait. Who leaves does so by losing its place: what is left of it in the line is
/// passed over.
#[derive(Debug)]
struct Line<K> {
    places: VecDeque<(K, i64)>,
    waiting: usize,
}

/// Those of one group that wait.
#[derive(Debug)]
struct Lane<K> {
    second: Line<K>,
    asked: Line<K>,
    drift: Line<K>,
}

/// A line with so many times more left-overs than waiting ones is cleared of them.
const LEFT_OVER: usize = 2;

impl<K> Lane<K> {
    fn new() -> Self {
        let line = || Line { places: VecDeque::new(), waiting: 0 };
        Self { second: line(), asked: line(), drift: line() }
    }

    fn of(&mut self, class: Class) -> &mut Line<K> {
        match class {
            Class::SecondHalf => &mut self.second,
            Class::Asked => &mut self.asked,
            Class::Drift => &mut self.drift,
        }
    }

    fn in_order(&self) -> impl Iterator<Item = &(K, i64)> {
        self.second.places.iter().chain(&self.asked.places).chain(&self.drift.places)
    }

    fn is_empty(&self) -> bool {
        self.second.waiting + self.asked.waiting + self.drift.waiting == 0
    }
}

/// The answer to who asks for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is now: the token is taken.
    Now,
    /// It will be told; so long it takes at the present rate.
    Later(Duration),
}

impl<G: Clone + PartialEq, K: Clone + Eq + Hash> Turns<G, K> {
    /// An empty queue before a full bucket.
    pub fn new(limit: Limit, now: Instant) -> Self {
        Self {
            bucket: Bucket::new(limit, now),
            groups: VecDeque::new(),
            waiting: HashMap::new(),
            granted: HashMap::new(),
            lost: HashMap::new(),
            first: 0,
            last: 0,
            since_drift: 0,
            seconds_in_a_row: 0,
        }
    }

    /// Asks for a turn. Whoever was told that it is their turn has it; others wait behind those who wait.
    pub fn ask(&mut self, group: &G, key: &K, class: Class, now: Instant) -> Turn {
        if self.granted.remove(key).is_some() {
            return Turn::Now;
        }
        if self.waiting.is_empty() && self.bucket.set_aside(now).is_ok() {
            return Turn::Now;
        }
        if self.waiting.get(key).is_none_or(|place| place.class != class) {
            self.forget_waiting(key);
            // Once: who is overtaken again and again must not hold up all others.
            let first = self.lost.get(key) == Some(&1);
            self.line_up(group, key, class, first);
        }
        let mut probe = self.bucket.clone();
        let one = probe.take(now).err().unwrap_or_default();
        Turn::Later(one.saturating_mul(u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)))
    }

    /// No longer wants a turn; one that was granted is given back.
    pub fn leave(&mut self, key: &K) {
        if self.granted.remove(key).is_some() {
            self.bucket.give_back();
        }
        self.forget_waiting(key);
        self.lost.remove(key);
    }

    /// The call has ended that a turn was taken for.
    pub fn used(&mut self, key: &K, now: Instant) {
        self.bucket.spend(now);
        self.lost.remove(key);
    }

    /// A turn was taken and not used, by no fault of whoever had it. Who asks again is the first in line, unless that happens
    /// over and over.
    pub fn lost(&mut self, key: &K) {
        self.bucket.give_back();
        *self.lost.entry(key.clone()).or_default() += 1;
    }

    /// Gives turns for the tokens there are: who may go now, and when to call again.
    pub fn advance(&mut self, now: Instant) -> (Vec<K>, Duration) {
        let before = self.granted.len();
        self.granted.retain(|_, (_, at)| now.saturating_duration_since(*at) < TURN);
        (self.granted.len()..before).for_each(|_| self.bucket.give_back());
        let mut told = Vec::new();
        while !self.waiting.is_empty() {
            match self.bucket.set_aside(now) {
                Ok(()) => match self.next() {
                    Some((key, place)) => {
                        self.granted.insert(key.clone(), (place, now));
                        told.push(key);
                    }
                    None => break,
                },
                Err(wait) => return (told, wait),
            }
        }
        (told, Duration::from_secs(1))
    }

    /// Whether this one waits, and its turn has not come.
    pub fn is_waiting(&self, key: &K) -> bool {
        self.waiting.contains_key(key)
    }

    /// Whether the turn of this one has come.
    pub fn has_turn(&self, key: &K) -> bool {
        self.granted.contains_key(key)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many changes that somebody asked for wait in this group.
    pub fn asked_in(&self, group: &G) -> usize {
        let lane = self.groups.iter().find(|(other, _)| other == group);
        lane.map_or(0, |(_, lane)| lane.second.waiting + lane.asked.waiting)
    }

    /// Who is likely to have a turn within this time, in about the order in which they will.
    pub fn upcoming(&self, horizon: Duration) -> Vec<K> {
        let count = self.bucket.refill(horizon);
        let in_line = |(key, number): &&(K, i64)| self.waiting.get(key).is_some_and(|p| p.number == *number);
        let lanes = self
            .groups
            .iter()
            .map(|(_, lane)| lane.in_order().filter(in_line).map(|(key, _)| key).take(count).collect());
        let lanes: Vec<Vec<&K>> = lanes.collect();
        let longest = lanes.iter().map(Vec::len).max().unwrap_or_default();
        let rounds = (0..longest).flat_map(|at| lanes.iter().filter_map(move |lane| lane.get(at)));
        rounds.take(count).map(|key| (*key).clone()).collect()
    }

    /// EC2 throttled a call of this kind, for this one. Who was given a turn by tokens that are not there is first in line
    /// again, and so is who was throttled.
    pub fn throttled(&mut self, key: &K, now: Instant) {
        self.bucket.throttled(now);
        self.lost.insert(key.clone(), 1);
        let mut granted: Vec<(K, Place<G>)> =
            self.granted.drain().map(|(key, (place, _))| (key, place)).collect();
        granted.sort_by_key(|(_, place)| std::cmp::Reverse(place.number));
        for (key, Place { group, class, .. }) in granted {
            self.bucket.give_back();
            self.line_up(&group, &key, class, true);
        }
    }

    /// Whether a throttle holds the rate down.
    pub fn is_throttled(&self) -> bool {
        self.bucket.is_throttled()
    }

    /// The share of the bucket that is filled.
    pub fn free(&mut self, now: Instant) -> f64 {
        self.bucket.free(now)
    }

    fn next(&mut self) -> Option<(K, Place<G>)> {
        let other = self.groups.iter().position(|(_, lane)| lane.asked.waiting + lane.drift.waiting > 0);
        let urgent = self.groups.iter().position(|(_, lane)| lane.second.waiting > 0);
        let urgent = urgent.filter(|_| other.is_none() || self.seconds_in_a_row + 1 < OTHERS_EVERY);
        let drift = self.groups.iter().position(|(_, lane)| lane.drift.waiting > 0);
        let starved = drift.filter(|_| self.since_drift + 1 >= DRIFT_EVERY);
        let (group, mut lane) = self.groups.remove(urgent.or(starved).or(other)?)?;
        let class = match (urgent, starved) {
            (Some(_), _) => Class::SecondHalf,
            (None, Some(_)) => Class::Drift,
            (None, None) if lane.asked.waiting == 0 => Class::Drift,
            (None, None) => Class::Asked,
        };
        let line = lane.of(class);
        let mut first = None;
        while let Some((key, number)) = line.places.pop_front() {
            if self.waiting.get(&key).is_some_and(|place| place.number == number) {
                first = self.waiting.remove_entry(&key);
                line.waiting -= 1;
                break;
            }
        }
        if !lane.is_empty() {
            self.groups.push_back((group, lane));
        }
        (self.seconds_in_a_row, self.since_drift) = match class {
            Class::SecondHalf => (self.seconds_in_a_row.saturating_add(1), self.since_drift),
            Class::Asked => (0, self.since_drift.saturating_add(1)),
            Class::Drift => (0, 0),
        };
        first
    }

    /// Gives a place at an end of the line. The group of who is first comes before the others.
    fn line_up(&mut self, group: &G, key: &K, class: Class, first: bool) {
        let at = self.groups.iter().position(|(other, _)| other == group);
        let at = match (at, first) {
            (Some(at), false) => at,
            (None, false) => {
                self.groups.push_back((group.clone(), Lane::new()));
                self.groups.len() - 1
            }
            (at, true) => {
                let lane = at.and_then(|at| self.groups.remove(at));
                self.groups.push_front(lane.unwrap_or_else(|| (group.clone(), Lane::new())));
                0
            }
        };
        let Some((_, lane)) = self.groups.get_mut(at) else { return };
        let line = lane.of(class);
        let number = if first {
            self.first -= 1;
            line.places.push_front((key.clone(), self.first));
            self.first
        } else {
            self.last += 1;
            line.places.push_back((key.clone(), self.last));
            self.last
        };
        line.waiting += 1;
        self.waiting.insert(key.clone(), Place { group: group.clone(), class, number });
    }

    fn forget_waiting(&mut self, key: &K) {
        let Some(Place { group, class, .. }) = self.waiting.remove(key) else { return };
        let Some(at) = self.groups.iter().position(|(other, _)| *other == group) else { return };
        let Some((_, lane)) = self.groups.get_mut(at) else { return };
        let line = lane.of(class);
        line.waiting -= 1;
        if line.places.len() > (line.waiting + 8) * LEFT_OVER {
            line.places
                .retain(|(key, number)| self.waiting.get(key).is_some_and(|place| place.number == *number));
        }
        if lane.is_empty() {
            self.groups.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(burst: f64) -> (Turns<&'static str, u32>, Instant) {
        let now = Instant::now();
        (Turns::new(Limit { burst, per_second: 1.0 }, now), now)
    }

    /// A queue before a bucket whose only token was spent.
    fn exhausted() -> (Turns<&'static str, u32>, Instant) {
        let (mut turns, now) = queue(1.0);
        assert_eq!(turns.ask(&"a", &0, Class::Asked, now), Turn::Now);
        turns.used(&0, now);
        (turns, now)
    }

    fn drain(turns: &mut Turns<&'static str, u32>, mut now: Instant, most: usize) -> Vec<u32> {
        let mut order = Vec::new();
        for _ in 0..most * 2 {
            now += Duration::from_secs(1);
            for key in turns.advance(now).0 {
                assert_eq!(turns.ask(&"any", &key, Class::Asked, now), Turn::Now);
                turns.used(&key, now);
                order.push(key);
            }
        }
        order
    }

    #[test]
    fn an_idle_queue_lets_everybody_through_until_the_bucket_is_empty() {
        let (mut turns, now) = queue(2.0);
        assert_eq!(turns.ask(&"a", &1, Class::Asked, now), Turn::Now);
        assert_eq!(turns.ask(&"a", &2, Class::Asked, now), Turn::Now);
        assert!(matches!(turns.ask(&"a", &3, Class::Asked, now), Turn::Later(_)));
    }

    #[test]
    fn turns_go_round_the_namespaces() {
        let (mut turns, now) = exhausted();
        for key in [1, 2, 3] {
            turns.ask(&"a", &key, Class::Asked, now);
        }
        turns.ask(&"b", &10, Class::Asked, now);
        assert_eq!(drain(&mut turns, now, 4), [1, 10, 2, 3]);
    }

    #[test]
    fn who_leaves_is_passed_over_and_comes_back_as_the_last() {
        let (mut turns, now) = exhausted();
        for key in 1..=1000 {
            turns.ask(&"a", &key, Class::Asked, now);
        }
        (2..=999).for_each(|key| turns.leave(&key));
        assert_eq!(turns.asked_in(&"a"), 2);
        turns.ask(&"a", &2, Class::Asked, now);
        assert_eq!(turns.upcoming(Duration::from_secs(5)), [1, 1000, 2]);
        assert_eq!(drain(&mut turns, now, 4), [1, 1000, 2]);
        assert_eq!((turns.waiting(), turns.groups.len()), (0, 0));
    }

    #[test]
    fn a_turn_that_is_lost_by_no_fault_of_ones_own_comes_again_first_but_not_over_and_over() {
        let (mut turns, now) = exhausted();
        for key in 1..=5 {
            turns.ask(&"a", &key, Class::Asked, now);
        }
        for (second, next) in [(1, 2), (2, 3)] {
            let then = now + Duration::from_secs(second);
            assert_eq!(turns.advance(then).0, [1]);
            assert_eq!(turns.ask(&"a", &1, Class::Asked, then), Turn::Now);
            turns.lost(&1);
            assert_eq!(
                turns.advance(then).0,
                [next],
                "the token is for who waits, until the other asks again"
            );
            assert_eq!(turns.ask(&"a", &next, Class::Asked, then), Turn::Now);
            turns.used(&next, then);
            assert!(matches!(turns.ask(&"a", &1, Class::Asked, then), Turn::Later(_)));
        }
        assert_eq!(drain(&mut turns, now + Duration::from_secs(2), 4), [4, 5, 1]);
        assert!(turns.lost.is_empty());
    }

    #[test]
    fn a_throttle_takes_the_turns_back_that_were_given_and_keeps_their_order() {
        let (mut turns, start) = queue(3.0);
        for key in 0..3 {
            assert_eq!(turns.ask(&"a", &key, Class::Asked, start), Turn::Now);
        }
        for (group, key) in [("a", 3), ("b", 4), ("c", 5), ("a", 6), ("b", 7)] {
            turns.ask(&group, &key, Class::Asked, start);
        }
        (0..3).for_each(|key| turns.used(&key, start));
        let mut now = start + Duration::from_secs(3);
        for _ in 0..3 {
            assert_eq!(turns.advance(now).0, [3, 4, 5]);
            turns.throttled(&0, now);
            assert!(!turns.has_turn(&3) && turns.is_waiting(&3) && turns.advance(now).0.is_empty());
            now += Duration::from_secs(60);
        }
        // Who was throttled is before those who only waited; then it goes round the namespaces.
        turns.ask(&"a", &0, Class::Asked, now);
        assert_eq!(drain(&mut turns, now, 10), [0, 4, 5, 3, 7, 6]);
    }

    #[test]
    fn what_people_asked_for_is_counted_by_group_and_drift_is_not() {
        let (mut turns, start) = exhausted();
        for (group, key, class) in [
            ("a", 1, Class::Asked),
            ("a", 2, Class::SecondHalf),
            ("a", 3, Class::Drift),
            ("b", 4, Class::Asked),
        ] {
            turns.ask(&group, &key, class, start);
        }
        assert_eq!(["a", "b", "c"].map(|group| turns.asked_in(&group)), [2, 1, 0]);
    }

    #[test]
    fn who_comes_soon_can_be_told_beforehand() {
        let (mut turns, now) = exhausted();
        for (group, key) in [("a", 1), ("a", 2), ("b", 10), ("a", 3)] {
            turns.ask(&group, &key, Class::Asked, now);
        }
        assert_eq!(turns.upcoming(Duration::from_secs(3)), [1, 10, 2]);
        assert_eq!(drain(&mut turns, now, 3)[..3], [1, 10, 2]);
    }

    #[test]
    fn who_comes_soon_is_told_at_once_however_high_the_limit_was_raised() {
        let now = Instant::now();
        let mut turns = Turns::new(Limit { burst: 1.0, per_second: 1e15 }, now);
        assert_eq!(turns.ask(&"a", &0, Class::Asked, now), Turn::Now);
        assert!(matches!(turns.ask(&"a", &1, Class::Asked, now), Turn::Later(_)));
        assert_eq!(turns.upcoming(Duration::from_secs(3)), [1]);
    }

    #[test]
    fn second_halves_first_then_people_and_drift_gets_its_quarter() {
        let (mut turns, now) = exhausted();
        for key in 1..=6 {
            turns.ask(&"a", &key, Class::Asked, now);
        }
        turns.ask(&"a", &20, Class::Drift, now);
        turns.ask(&"a", &30, Class::SecondHalf, now);
        assert_eq!(drain(&mut turns, now, 8), [30, 1, 2, 3, 20, 4, 5, 6]);
    }

    #[test]
    fn second_halves_without_end_leave_a_quarter_to_the_others() {
        let (mut turns, now) = exhausted();
        for key in 1..=4 {
            turns.ask(&"a", &key, Class::SecondHalf, now);
            turns.ask(&"b", &(10 + key), Class::SecondHalf, now);
        }
        turns.ask(&"c", &20, Class::Asked, now);
        turns.ask(&"c", &21, Class::Drift, now);
        assert_eq!(drain(&mut turns, now, 10), [1, 11, 2, 20, 12, 3, 13, 21, 4, 14]);
    }

    #[test]
    fn who_leaves_gives_the_turn_back_and_an_unused_turn_expires() {
        let (mut turns, now) = exhausted();
        turns.ask(&"a", &1, Class::Asked, now);
        turns.ask(&"a", &2, Class::Asked, now);
        let later = now + Duration::from_secs(1);
        assert_eq!(turns.advance(later).0, [1]);
        turns.leave(&1);
        assert_eq!(turns.advance(later).0, [2]);
        let expired = later + TURN;
        assert!(turns.advance(expired).0.is_empty());
        assert_eq!(turns.ask(&"a", &2, Class::Asked, expired), Turn::Now);
    }
}
