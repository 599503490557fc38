//! What becomes of a state when nothing disturbs it any more: everything under way ends, time passes, and the leader
//! goes on with its passes. It is the fair schedule; that it ends well from every state is L1, that it ends is S4.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;

use super::ec2::Power;
use super::judge::{Law, Zeal};
use super::system::{Action, Doing, State, Storm};

/// Rounds after which it must have come to rest.
const ROUNDS: usize = 40;

/// How a state ends in quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rest {
    /// It comes to rest.
    pub still: bool,
    /// The instance is as declared, or the deletion is done, where nothing stands in the way.
    pub as_declared: bool,
    /// No swap of ours leaves the instance without a profile.
    pub never_bare: bool,
}

const WELL: Rest = Rest { still: true, as_declared: true, never_bare: true };

#[derive(Debug, Default)]
pub struct Quiet(Mutex<HashMap<u64, Rest>>);

fn key(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

impl Storm {
    /// How this state ends in quiet. What the steps on the way end in is the same, so it is remembered of all.
    pub fn rest(&self, state: &State) -> Rest {
        if !state.broken.is_empty() {
            return WELL;
        }
        let mut now = State { left: 0, ..state.clone() };
        let mut way = vec![key(&now)];
        let rest = loop {
            let last = *way.last().unwrap();
            if let Some(known) = self.quiet.0.lock().unwrap().get(&last) {
                break *known;
            }
            self.round(&mut now);
            let next = key(&now);
            if way.contains(&next) || way.len() > ROUNDS {
                // A round that ends where it began may have written all the same.
                let idle = now.air.is_empty() && now.processes[now.leader].doing == Doing::Idle;
                break self.judge_rest(&now, next == last && idle);
            }
            way.push(next);
        };
        let mut known = self.quiet.0.lock().unwrap();
        for key in way {
            known.insert(key, rest);
        }
        rest
    }

    /// The rounds that follow.
    pub fn rounds(&self, state: &State, count: usize) -> Vec<State> {
        let mut now = State { left: 0, ..state.clone() };
        let mut next = || {
            self.round(&mut now);
            now.clone()
        };
        (0..count).map(|_| next()).collect()
    }

    /// A round: what is under way ends, minutes pass, and the leader looks and acts.
    fn round(&self, state: &mut State) {
        let try_to = |state: &mut State, action| {
            let next = self.after(state, action);
            let happened = next.is_some();
            if let Some(next) = next {
                *state = next;
            }
            happened
        };
        while !state.air.is_empty() {
            if !try_to(state, Action::Execute(0)) && !try_to(state, Action::Deliver(0)) {
                break;
            }
        }
        for action in
            [Action::RowsMoveOn, Action::PowersOn, Action::Settle, Action::Minutes, Action::HoldOffEnds]
        {
            try_to(state, action);
        }
        for who in 0..2 {
            try_to(state, Action::Intend(who));
            try_to(state, Action::Permit(who));
        }
        try_to(state, Action::Look);
        try_to(state, Action::Pass);
        let leader = state.leader;
        if matches!(state.processes[leader].doing, Doing::Decided { .. }) {
            try_to(state, Action::Intend(leader));
            try_to(state, Action::Permit(leader));
        }
    }

    fn judge_rest(&self, end: &State, still: bool) -> Rest {
        let Some(object) = &end.object else { return Rest { still, ..WELL } };
        // Retries of what AWS denies go on, slowly, for ever.
        let faulty = end.ec2.denied || end.ec2.unknown;
        let acts = object.spec.zeal == Zeal::Enforce && end.law != Law::Nothing && !end.rival;
        let held = end.law == Law::NeverNone && object.spec.want.is_none();
        let there = end.ec2.power != Power::Terminated;
        let as_declared = match object.deleted {
            true => faulty,
            // What others changed stays so while the circuit is open, and nothing else does.
            false => {
                let left_alone = end.open && end.tampered;
                !acts || held || faulty || left_alone || !there || end.ec2.carries() == object.spec.want
            }
        };
        let must_carry = end.law == Law::NeverNone && !end.rival;
        let covered = there && !object.deleted && (acts && object.spec.want.is_some() || must_carry);
        let never_bare = !covered || end.swapped.is_none() || end.ec2.live().is_some();
        Rest { still: still || faulty, as_declared, never_bare }
    }
}
