//! Whose status is written when many are due at once.
//!
//! After a start, or when a grant changes, ten thousand statuses may have news that nobody waits for. So many are written
//! at a time, and the rest is told to come again: a pass that somebody waits for, an edit or a deletion, finds the
//! workers free and writes at once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bindings::Key;

/// How many statuses that nobody waits for are written at the same time.
const AT_ONCE: usize = 8;

/// The statuses that are being written, and those that wait.
#[derive(Debug, Default)]
pub struct Teller(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    writing: usize,
    queue: VecDeque<Key>,
    waiting: HashSet<Key>,
}

/// The right to write one status. It ends with its holder, even in a panic.
#[derive(Debug)]
pub struct Turn<'a>(&'a Teller);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.writing = state.writing.saturating_sub(1);
    }
}

impl Teller {
    /// The right to write a status now; without it the binding waits, and is named by [`Self::done`] later.
    pub fn ask(&self, key: &Key) -> Option<Turn<'_>> {
        let mut state = self.state();
        if state.writing < AT_ONCE {
            state.writing += 1;
            return Some(Turn(self));
        }
        if state.waiting.insert(key.clone()) {
            state.queue.push_back(key.clone());
        }
        None
    }

    /// A status was written, well or badly: who comes next.
    pub fn done(&self, turn: Turn<'_>) -> Option<Key> {
        drop(turn);
        let mut state = self.state();
        let next = state.queue.pop_front()?;
        state.waiting.remove(&next);
        Some(next)
    }

    /// Who comes next where nobody writes: one that was named may have had nothing to tell any more.
    pub fn idle(&self) -> Vec<Key> {
        let mut state = self.state();
        let free = AT_ONCE.saturating_sub(state.writing).min(state.queue.len());
        let next: Vec<Key> = state.queue.drain(..free).collect();
        for key in &next {
            state.waiting.remove(key);
        }
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        Key { namespace: "a".into(), name: n.to_string() }
    }

    #[test]
    fn so_many_at_a_time_then_one_for_one_each_named_once() {
        let teller = Teller::default();
        let mut turns: Vec<Turn<'_>> = (0..AT_ONCE).map(|n| teller.ask(&key(n)).unwrap()).collect();
        assert!(teller.ask(&key(100)).is_none() && teller.ask(&key(101)).is_none());
        assert!(teller.ask(&key(100)).is_none(), "who waits already waits once");
        let named: Vec<Option<Key>> = turns.drain(..3).map(|turn| teller.done(turn)).collect();
        assert_eq!(named, [Some(key(100)), Some(key(101)), None]);
        assert!(teller.ask(&key(100)).is_some());
    }

    #[test]
    fn a_turn_whose_holder_is_gone_is_free_again() {
        let teller = Teller::default();
        for n in 0..=AT_ONCE {
            assert!(teller.ask(&key(n)).is_some());
        }
    }

    #[test]
    fn nobody_waits_for_ever_behind_one_that_has_nothing_to_tell_any_more() {
        let teller = Teller::default();
        let turns: Vec<Turn<'_>> = (0..AT_ONCE).map(|n| teller.ask(&key(n)).unwrap()).collect();
        let waits = |n: usize| teller.ask(&key(n)).is_none();
        assert!((100..120).all(waits) && teller.idle().is_empty());
        // Those named by these do not ask again.
        assert_eq!(turns.into_iter().filter_map(|turn| teller.done(turn)).count(), AT_ONCE);
        assert_eq!(teller.idle().len(), AT_ONCE);
        assert_eq!(teller.idle().len(), 20 - 2 * AT_ONCE);
        assert!(teller.idle().is_empty());
    }
}
