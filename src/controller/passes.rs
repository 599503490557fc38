//! Who has a pass when: one at a time for each binding, in the order in which they were woken, those first for whom
//! somebody waits.
//!
//! Nothing is kept of a binding that is at rest. kube's own queue keeps the whole name of each, three times, and takes
//! the waiting ones in any order; ten thousand that nobody waits for would stand before an edit.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::bindings::Key;
use crate::telemetry::Workqueue;

/// Whether somebody waits for a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nobody does: what was seen at AWS or in other objects has changed, or it is time to look again.
    Routine,
    /// Somebody declared something.
    Awaited,
    /// It is the binding's turn to be changed: a token is set aside for it. There are no more of these than tokens.
    Turn,
}

/// When a binding is to have its next pass, unless it is woken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action(Option<Duration>);

impl Action {
    /// After this time.
    pub fn requeue(after: Duration) -> Self {
        Self(Some(after))
    }

    /// Not before it is woken.
    pub fn await_change() -> Self {
        Self(None)
    }
}

/// While both wait, one pass in so many is a routine one, so that edits in a loop starve nobody.
const ROUTINE_EVERY: u32 = 4;
/// A table with room for so many times more than it holds is made smaller.
const SPARE: usize = 8;

/// The bindings that are to have a pass, now or later, and those that have one.
#[derive(Debug, Default)]
pub struct Passes {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    turn: VecDeque<Arc<Key>>,
    awaited: VecDeque<Arc<Key>>,
    routine: VecDeque<Arc<Key>>,
    later: BTreeMap<(Instant, u64), Arc<Key>>,
    stands: HashMap<Arc<Key>, Stand>,
    /// How many times were given out for later, so that no two are the same.
    count: u64,
    since_routine: u32,
    /// Where it is told who waits, and for how long.
    told: Option<Workqueue>,
}

/// How a binding stands that is not at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It is to have a pass as soon as there is room for one, and waits since then.
    Waits(Urgency, Instant),
    /// It is to have one at this time.
    Later(Instant, u64),
    /// It has one, and was or was not woken meanwhile.
    UnderWay(Option<Urgency>),
}

impl Passes {
    /// None yet; what goes on is told there.
    pub fn told_to(queue: Workqueue) -> Self {
        let state = State { told: Some(queue), ..State::default() };
        Self { state: Mutex::new(state), news: Notify::new() }
    }

    /// Has a binding looked at as soon as may be; once, however often it is woken until then.
    pub fn wake(&self, key: &Arc<Key>, urgency: Urgency) {
        self.state().wake(key, urgency, Instant::now());
        self.news.notify_one();
    }

    /// Waits until a binding is to have a pass; it is under way from then on.
    pub async fn next(&self) -> Arc<Key> {
        loop {
            let until = match self.state().next(Instant::now()) {
                Ok(key) => return key,
                Err(until) => until,
            };
            let time = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = time => {}
                () = self.news.notified() => {}
            }
        }
    }

    /// A pass has ended.
    pub fn ended(&self, key: &Arc<Key>, next: Action) {
        self.state().ended(key, next, Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self, key: &Arc<Key>, urgency: Urgency, now: Instant) {
        let mut since = None;
        match self.stands.get_mut(key) {
            Some(Stand::UnderWay(again)) => {
                *again = (*again).max(Some(urgency));
                return;
            }
            // Its former place in the other queue is passed over.
            Some(Stand::Waits(before, at)) if *before < urgency => since = Some(*at),
            Some(Stand::Waits(..)) => return,
            Some(Stand::Later(at, number)) => drop(self.later.remove(&(*at, *number))),
            None => {}
        }
        if since.is_none() {
            self.tell(Workqueue::added);
        }
        self.stands.insert(Arc::clone(key), Stand::Waits(urgency, since.unwrap_or(now)));
        self.queue(urgency).push_back(Arc::clone(key));
    }

    fn tell(&self, news: impl FnOnce(&Workqueue)) {
        if let Some(queue) = &self.told {
            news(queue);
        }
    }

    /// Who is next, or when there will be somebody.
    fn next(&mut self, now: Instant) -> Result<Arc<Key>, Option<Instant>> {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.remove();
            self.tell(Workqueue::added);
            self.stands.insert(Arc::clone(&key), Stand::Waits(Urgency::Routine, now));
            self.routine.push_back(key);
        }
        loop {
            let routine = self.awaited.is_empty()
                || !self.routine.is_empty() && self.since_routine + 1 >= ROUTINE_EVERY;
            let urgency = match routine {
                _ if !self.turn.is_empty() => Urgency::Turn,
                true => Urgency::Routine,
                false => Urgency::Awaited,
            };
            let Some(key) = self.queue(urgency).pop_front() else { break };
            if let Some(Stand::Waits(waiting, since)) = self.stands.get(&key).copied()
                && waiting == urgency
            {
                self.tell(|queue| queue.taken(now.duration_since(since)));
                self.since_routine = match urgency {
                    Urgency::Routine => 0,
                    Urgency::Awaited => self.since_routine.saturating_add(1),
                    Urgency::Turn => self.since_routine,
                };
                self.stands.insert(Arc::clone(&key), Stand::UnderWay(None));
                return Ok(key);
            }
        }
        self.turn.shrink_to(SPARE);
        self.awaited.shrink_to(SPARE);
        self.routine.shrink_to(SPARE);
        Err(self.later.first_key_value().map(|((at, _), _)| *at))
    }

    fn ended(&mut self, key: &Arc<Key>, Action(next): Action, now: Instant) {
        let before = self.stands.remove(key);
        match (before, next.and_then(|next| now.checked_add(next))) {
            (Some(Stand::UnderWay(Some(urgency))), _) => self.wake(key, urgency, now),
            (_, Some(at)) => {
                self.count += 1;
                self.later.insert((at, self.count), Arc::clone(key));
                self.stands.insert(Arc::clone(key), Stand::Later(at, self.count));
            }
            (_, None) => {
                if self.stands.capacity() > SPARE * self.stands.len().max(SPARE) {
                    self.stands.shrink_to_fit();
                }
            }
        }
    }

    fn queue(&mut self, urgency: Urgency) -> &mut VecDeque<Arc<Key>> {
        match urgency {
            Urgency::Turn => &mut self.turn,
            Urgency::Awaited => &mut self.awaited,
            Urgency::Routine => &mut self.routine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{BuildInfo, Metrics};

    fn key(name: impl ToString) -> Arc<Key> {
        Arc::new(Key { namespace: "a".into(), name: name.to_string() })
    }

    /// Who has passes now, in this order.
    fn who(passes: &Passes) -> Vec<String> {
        std::iter::from_fn(|| passes.state().next(Instant::now()).ok()).map(|key| key.name.clone()).collect()
    }

    #[test]
    fn each_has_one_pass_however_often_it_is_woken() {
        let passes = Passes::default();
        for name in ["one", "two", "one", "one"] {
            passes.wake(&key(name), Urgency::Routine);
        }
        assert_eq!(who(&passes), ["one", "two"]);
        assert!(who(&passes).is_empty());
    }

    #[test]
    fn who_is_woken_in_the_middle_of_a_pass_has_another_after_it_and_not_beside_it() {
        let passes = Passes::default();
        passes.wake(&key("one"), Urgency::Routine);
        assert_eq!(who(&passes), ["one"]);
        passes.wake(&key("one"), Urgency::Awaited);
        assert!(who(&passes).is_empty());
        passes.ended(&key("one"), Action::requeue(Duration::from_secs(60)));
        assert_eq!(who(&passes), ["one"]);
    }

    #[test]
    fn an_edit_does_not_stand_behind_ten_thousand_that_nobody_waits_for() {
        let passes = Passes::default();
        (0..10_000).for_each(|n| passes.wake(&key(n), Urgency::Routine));
        passes.wake(&key("edited"), Urgency::Awaited);
        // One that waits already is drawn forward.
        passes.wake(&key(7000), Urgency::Awaited);
        let order = who(&passes);
        assert_eq!(order[..4], ["edited", "7000", "0", "1"]);
        assert_eq!(order.len(), 10_001);
    }

    #[test]
    fn who_has_a_turn_stands_behind_nobody() {
        let passes = Passes::default();
        (0..1000).for_each(|n| passes.wake(&key(n), Urgency::Awaited));
        passes.wake(&key("drifted"), Urgency::Routine);
        passes.wake(&key(500), Urgency::Turn);
        passes.wake(&key("late"), Urgency::Turn);
        assert_eq!(who(&passes)[..6], ["500", "late", "0", "1", "2", "drifted"]);
    }

    #[test]
    fn edits_in_a_loop_starve_nobody() {
        let passes = Passes::default();
        passes.wake(&key("drifted"), Urgency::Routine);
        (0..100).for_each(|n| passes.wake(&key(n), Urgency::Awaited));
        assert_eq!(who(&passes)[..5], ["0", "1", "2", "drifted", "3"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_to_come_later_comes_then_or_when_it_is_woken_before() {
        let passes = Passes::default();
        for (name, seconds) in [("late", 60), ("soon", 5), ("woken", 3600)] {
            passes.wake(&key(name), Urgency::Routine);
            assert_eq!(passes.next().await.name, name);
            passes.ended(&key(name), Action::requeue(Duration::from_secs(seconds)));
        }
        let began = Instant::now();
        passes.wake(&key("woken"), Urgency::Routine);
        for (name, seconds) in [("woken", 0), ("soon", 5), ("late", 60)] {
            assert_eq!(passes.next().await.name, name);
            assert_eq!(began.elapsed().as_secs(), seconds);
        }
    }

    #[test]
    fn it_is_told_who_waits_and_who_no_longer_does() {
        let metrics = Metrics::new(BuildInfo { version: "0", commit: "0" }).unwrap();
        let passes = Passes::told_to(metrics.queue());
        let told = |name: &str| {
            let text = metrics.render().unwrap();
            let line = text.lines().find(|line| line.starts_with(&format!("workqueue_{name}{{"))).unwrap();
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        passes.wake(&key("one"), Urgency::Routine);
        passes.wake(&key("one"), Urgency::Awaited);
        passes.wake(&key("two"), Urgency::Routine);
        assert_eq!((told("depth"), told("adds_total")), (2.0, 2.0));
        assert_eq!(who(&passes).len(), 2);
        assert_eq!((told("depth"), told("queue_duration_seconds_count")), (0.0, 2.0));
        passes.wake(&key("one"), Urgency::Routine);
        assert_eq!((told("depth"), told("adds_total")), (0.0, 2.0), "its pass is under way");
        passes.ended(&key("one"), Action::await_change());
        assert_eq!((told("depth"), told("adds_total")), (1.0, 3.0));
    }

    #[test]
    fn nothing_is_kept_of_who_is_at_rest() {
        let passes = Passes::default();
        let keys: Vec<Arc<Key>> = (0..1000).map(key).collect();
        keys.iter().for_each(|key| passes.wake(key, Urgency::Routine));
        assert_eq!(who(&passes).len(), 1000);
        keys.iter().for_each(|key| passes.ended(key, Action::await_change()));
        let state = passes.state();
        assert!(state.stands.capacity() <= SPARE * SPARE && state.routine.capacity() <= SPARE);
        assert!(keys.iter().all(|key| Arc::strong_count(key) == 1));
    }
}
