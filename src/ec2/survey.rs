//! All associations of a Region, and the instances they belong to: for a command that asks what there is.

use std::collections::{BTreeMap, HashMap};

use super::again::again;
use super::client::{Ec2, FILTER_VALUES, Read};
use super::error::Error;
use super::listing;
use crate::decide::{Association, Instance, Rows};
use crate::ids::InstanceId;

/// An instance that has an association, or had one a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its associations.
    pub rows: Rows,
    /// The instance itself.
    pub instance: Instance,
}

/// Lists a Region, by pages; the states and tags of the instances in batches.
///
/// # Errors
/// AWS does not answer, or denies it.
pub async fn survey(ec2: &Ec2) -> Result<BTreeMap<InstanceId, Found>, Error> {
    let mut rows: BTreeMap<InstanceId, Vec<Option<Association>>> = BTreeMap::new();
    let mut next = None;
    loop {
        let page =
            || async { ec2.associations_page(ec2.read_token(Read::Associations).await, next.clone()).await };
        let (page, following) = again(page).await?;
        for (id, row) in page {
            rows.entry(id).or_default().push(row);
        }
        next = following;
        if next.is_none() {
            break;
        }
    }
    let ids: Vec<InstanceId> = rows.keys().cloned().collect();
    let mut instances = HashMap::new();
    for batch in ids.chunks(FILTER_VALUES) {
        let look = || async { listing::instances(ec2, ec2.read_token(Read::Instances).await, batch).await };
        instances.extend(again(look).await?.0);
    }
    let found = |(id, rows): (InstanceId, Vec<Option<Association>>)| {
        let rows = rows.into_iter().collect::<Option<Vec<_>>>().map_or(Rows::Unclear, Rows::of);
        let instance = instances.remove(&id).unwrap_or(Instance::Absent);
        (id, Found { rows, instance })
    };
    Ok(rows.into_iter().map(found).collect())
}
