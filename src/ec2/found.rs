//! The rows that a look found, by instance.
//!
//! A listing shows a hundred thousand rows, and hardly one of them is news: a name that is known already is kept once.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::client::Row;
use super::entry::Entry;
use crate::decide::Association;
use crate::ids::{InstanceId, ProfileArn, ProfileId};

/// Rows by instance; a row that cannot be understood is there as nothing.
#[derive(Debug, Default)]
pub(crate) struct Found {
    rows: HashMap<InstanceId, Few>,
    // A fleet carries few profiles.
    arns: HashSet<ProfileArn>,
    ids: HashSet<ProfileId>,
}

/// The rows of one instance; more than one for moments only.
#[derive(Debug)]
enum Few {
    One(Option<Association>),
    More(Vec<Option<Association>>),
}

impl Found {
    /// Nothing yet, with room for the rows of so many instances.
    pub(crate) fn for_instances(count: usize) -> Self {
        Self { rows: HashMap::with_capacity(count), ..Self::default() }
    }

    /// Takes in the rows of those instances that are in view.
    pub(crate) fn take_in(&mut self, rows: Vec<Row>, in_view: &HashMap<InstanceId, Box<Entry>>) {
        for (id, mut row) in rows {
            let Some((id, entry)) = in_view.get_key_value(&id) else { continue };
            if let Some(row) = &mut row {
                row.profile = one(&mut self.arns, &row.profile);
                row.profile_id = row.profile_id.take().map(|id| one(&mut self.ids, &id));
                entry.share_with(row);
            }
            match self.rows.get_mut(id) {
                None => drop(self.rows.insert(id.clone(), Few::One(row))),
                Some(Few::One(first)) => {
                    let first = first.take();
                    self.rows.insert(id.clone(), Few::More(vec![first, row]));
                }
                Some(Few::More(rows)) => rows.push(row),
            }
        }
    }

    /// The rows of an instance, once.
    pub(crate) fn take(&mut self, id: &InstanceId) -> Vec<Option<Association>> {
        match self.rows.remove(id) {
            None => Vec::new(),
            Some(Few::One(row)) => vec![row],
            Some(Few::More(rows)) => rows,
        }
    }
}

/// The same value, sharing the memory of the one that was seen before.
fn one<T: Clone + Eq + Hash>(seen: &mut HashSet<T>, value: &T) -> T {
    seen.get(value).cloned().unwrap_or_else(|| {
        seen.insert(value.clone());
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::decide::AssociationState;
    use crate::ids::AssociationId;

    fn row(instance: &str, id: &str) -> Row {
        let association = Association {
            id: AssociationId::parse(&format!("iip-assoc-{id}")).unwrap(),
            profile: ProfileArn::parse("arn:aws:iam::123456789012:instance-profile/App").unwrap(),
            profile_id: ProfileId::parse("AIPA0000000000000001").ok(),
            state: AssociationState::Associated,
            since: Timestamp::UNIX_EPOCH,
        };
        (InstanceId::parse(instance).unwrap(), Some(association))
    }

    fn in_view(ids: &[&str]) -> HashMap<InstanceId, Box<Entry>> {
        ids.iter().map(|id| (InstanceId::parse(id).unwrap(), Box::default())).collect()
    }

    #[test]
    fn all_rows_of_an_instance_that_is_in_view_are_there_and_no_others() {
        let mut found = Found::default();
        let (one, other) = ("i-00000001", "i-00000002");
        let unclear = (InstanceId::parse(one).unwrap(), None);
        found.take_in(vec![row(one, "1"), row(other, "9")], &in_view(&[one]));
        found.take_in(vec![row(one, "2"), unclear], &in_view(&[one]));
        let one = InstanceId::parse(one).unwrap();
        let ids: Vec<Option<String>> =
            found.take(&one).into_iter().map(|row| row.map(|row| row.id.to_string())).collect();
        assert_eq!(ids, [Some("iip-assoc-1".into()), Some("iip-assoc-2".into()), None]);
        assert!(found.take(&one).is_empty(), "they are taken once");
        assert!(found.take(&InstanceId::parse(other).unwrap()).is_empty());
    }

    #[test]
    fn what_is_known_already_is_kept_once() {
        let mut view = in_view(&["i-00000001"]);
        let (id, known) = row("i-00000001", "1");
        view.get_mut(&id).unwrap().looked_up(vec![known.clone()], Timestamp::now());
        let mut found = Found::default();
        found.take_in(vec![row("i-00000001", "1")], &view);
        let (found, known) = (found.take(&id).remove(0).unwrap(), known.unwrap());
        let same = |one: &str, other: &str| std::ptr::eq(one, other);
        assert!(same(found.id.as_str(), known.id.as_str()));
        assert!(same(found.profile.as_str(), known.profile.as_str()));
        assert!(same(found.profile_id.unwrap().as_str(), known.profile_id.unwrap().as_str()));
    }
}
