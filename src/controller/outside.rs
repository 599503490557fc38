//! What others did to the instances, as far as this process has seen it since it leads.
//!
//! A change of others is one away from what was seen to be as declared, or from what others had brought about before. So
//! what is found at first sight is none, nor what came about while another binding had the instance.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use jiff::Timestamp;

use crate::decide::{OutsideChange, Outsiders, Sighting};
use crate::ids::AssociationId;

/// What was last seen of an instance, on behalf of one binding.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    AsDeclared,
    /// Something else: this association, or none.
    Otherwise(Option<AssociationId>),
}

/// What others did to the instances of all bindings, by UID.
#[derive(Debug, Default)]
pub struct Outside {
    /// By a hash of the UID: there is one for each binding, and one that is mistaken for another costs a count at most.
    seen: HashMap<u64, Seen>,
    lately: HashMap<String, Outsiders>,
}

impl Outside {
    /// The instance is as declared.
    pub fn as_declared(&mut self, uid: &str) {
        self.seen.insert(hash(uid), Seen::AsDeclared);
    }

    /// What comes next is seen for the first time.
    pub fn looks_away(&mut self, uid: &str) {
        self.seen.remove(&hash(uid));
    }

    /// Whether what is seen is a change of others that counts; it is noted.
    pub fn sighted(&mut self, uid: &str, sighting: &Sighting, now: Timestamp) -> bool {
        let seen = Seen::Otherwise(sighting.association.clone());
        let before = self.seen.insert(hash(uid), seen.clone());
        // A change of ours may come late.
        if sighting.late || before.is_none_or(|before| before == seen) {
            return false;
        }
        let change = OutsideChange { at: now, found: sighting.found.clone() };
        self.lately.entry(uid.to_owned()).or_default().note(change);
        true
    }

    /// What others did to the instance lately.
    pub fn of(&self, uid: &str) -> Outsiders {
        self.lately.get(uid).cloned().unwrap_or_default()
    }

    /// A person asked for the repair.
    pub fn wait_no_longer(&mut self, uid: &str) {
        if let Some(outsiders) = self.lately.get_mut(uid) {
            outsiders.wait_no_longer();
        }
    }

    /// Another process led, or comes to lead.
    pub fn start_over(&mut self) {
        *self = Self::default();
    }

    /// The binding is gone.
    pub fn forget(&mut self, uid: &str) {
        self.lately.remove(uid);
        self.looks_away(uid);
    }

    /// Nothing that is over is kept.
    pub fn forget_old(&mut self, now: Timestamp) {
        self.lately.retain(|_, outsiders| !outsiders.is_over(now));
    }
}

fn hash(uid: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Carried;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn found(association: Option<&str>) -> Sighting {
        let association = association.map(|id| AssociationId::parse(&format!("iip-assoc-{id}")).unwrap());
        Sighting { association, found: Carried::Nothing, late: false }
    }

    #[test]
    fn each_change_of_others_counts_once() {
        let mut outside = Outside::default();
        outside.as_declared("u");
        let counts: Vec<bool> =
            ["1", "1", "2", "2", "1"].map(|id| outside.sighted("u", &found(Some(id)), at(0))).into();
        assert_eq!(counts, [true, false, true, false, true]);
        outside.as_declared("u");
        assert!(outside.sighted("u", &found(None), at(1)));
        assert!(!outside.sighted("u", &found(None), at(2)));
        assert!(outside.of("u").contention(at(3)).is_some_and(|c| c.changes.len() == 4));
        assert!(outside.of("other").contention(at(3)).is_none());
    }

    #[test]
    fn first_sight_a_late_change_of_ours_and_what_another_binding_did_do_not_count() {
        let mut outside = Outside::default();
        assert!(!outside.sighted("u", &found(Some("1")), at(0)), "first sight");
        outside.as_declared("u");
        outside.start_over();
        assert!(!outside.sighted("u", &found(Some("2")), at(1)), "first sight after a start");
        outside.as_declared("u");
        outside.looks_away("u");
        assert!(!outside.sighted("u", &found(Some("3")), at(2)), "another binding had it");
        outside.as_declared("u");
        assert!(!outside.sighted("u", &Sighting { late: true, ..found(Some("4")) }, at(3)), "late");
        assert!(!outside.sighted("u", &found(Some("4")), at(4)), "and still there");
    }

    #[test]
    fn nothing_is_kept_of_what_is_over() {
        let mut outside = Outside::default();
        outside.as_declared("u");
        outside.sighted("u", &found(None), at(0));
        outside.forget_old(at(3599));
        assert_eq!(outside.lately.len(), 1);
        outside.forget_old(at(3600));
        assert_eq!(outside.lately.len(), 0);
        outside.forget("u");
        assert!(outside.seen.is_empty());
    }
}
