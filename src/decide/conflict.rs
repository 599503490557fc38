//! Several bindings for one instance: one winner, the others wait and write nothing.

use jiff::Timestamp;

use super::{Case, Decision, Evidence, Reason};

/// A binding that competes for an instance: it would write, and it is not being deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contender {
    /// When it was made.
    pub created: Timestamp,
    /// Its UID, which decides between two of the same second.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// How a binding stands among those for the same instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody else writes there.
    Winner,
    /// Another one writes there.
    Loser {
        /// Its name, told only within its own namespace.
        winner: Option<String>,
    },
}

/// The binding that takes over from one that is being deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Successor {
    /// The instance is as it declares.
    Done,
    /// It is about to write.
    Pending,
    /// What it will do depends on what EC2 shows now.
    Unseen(Evidence),
    /// It cannot write: suspended, or in need of a person.
    Refused,
}

/// The one that writes: the oldest, then the one with the smaller UID. The order of the list is irrelevant.
pub fn winner(contenders: &[Contender]) -> Option<&Contender> {
    contenders.iter().min_by(|a, b| a.created.cmp(&b.created).then_with(|| a.uid.cmp(&b.uid)))
}

/// Where `uid` of `namespace` stands among the contenders.
pub fn standing(uid: &str, namespace: &str, contenders: &[Contender]) -> Standing {
    match winner(contenders) {
        Some(first) if first.uid != uid => {
            Standing::Loser { winner: (first.namespace == namespace).then(|| first.name.clone()) }
        }
        Some(_) | None => Standing::Winner,
    }
}

pub(super) fn lost(case: &Case<'_>) -> Option<Decision> {
    let Standing::Loser { winner } = case.standing else { return None };
    if !case.desired.writes() {
        return None;
    }
    let who = winner
        .as_ref()
        .map_or_else(|| "a binding of another namespace".to_owned(), |name| format!("binding {name}"));
    Some(Decision::refuse(
        Reason::Conflict,
        format!(
            "{who} is older and declares the same instance, so this one writes nothing; delete one of the two"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(second: i64, uid: &str, namespace: &str) -> Contender {
        let created = Timestamp::from_second(second).unwrap();
        Contender { created, uid: uid.into(), namespace: namespace.into(), name: format!("name-{uid}") }
    }

    #[test]
    fn the_oldest_wins_then_the_smaller_uid_in_any_order() {
        let mut all = vec![contender(2, "a", "x"), contender(1, "c", "x"), contender(1, "b", "y")];
        for _ in 0..all.len() {
            all.rotate_left(1);
            assert_eq!(winner(&all).unwrap().uid, "b");
        }
        assert_eq!(standing("b", "y", &all), Standing::Winner);
    }

    #[test]
    fn the_winner_is_named_only_within_its_namespace() {
        let all = [contender(1, "a", "x"), contender(2, "b", "x"), contender(3, "c", "y")];
        assert_eq!(standing("b", "x", &all), Standing::Loser { winner: Some("name-a".into()) });
        assert_eq!(standing("c", "y", &all), Standing::Loser { winner: None });
    }
}
