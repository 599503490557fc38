//! The cheaper way to list: all pages of the Region, or id filters for the few that matter.

use std::collections::HashMap;

use super::client::{Ec2, FILTER_VALUES, Row};
use super::error::{Error, Meaning};
use crate::decide::Instance;
use crate::ids::InstanceId;

/// What a listing saw.
#[derive(Debug)]
pub struct Listed {
    /// The rows of the instances asked for.
    pub rows: Vec<Row>,
    /// Calls made.
    pub calls: u64,
    /// Whether each instance was asked for by its id, so that a missing row means that there is none.
    pub by_id: bool,
    /// Ids that EC2 calls malformed.
    pub malformed: Vec<InstanceId>,
}

/// Lists the associations of these instances with as few calls as may be: pages of 1000 over the whole Region,
/// unless that takes more calls than filters of 200 ids. The size of the Region shows only on the way, so the
/// pages are given up where they become the dearer way; `filters` remembers that for the next time.
pub async fn list(
    ec2: &Ec2,
    ids: &[InstanceId],
    wanted: impl Fn(&InstanceId) -> bool,
    filters: &mut bool,
) -> Result<Listed, Error> {
    let batches = ids.len().div_ceil(FILTER_VALUES);
    *filters = *filters || batches <= 1;
    let mut calls = 0;
    if !*filters {
        let (mut rows, mut token) = (Vec::new(), None);
        loop {
            let (page, next) = ec2.associations_page(token).await?;
            calls += 1;
            rows.extend(page.into_iter().filter(|(id, _)| wanted(id)));
            token = next;
            match token {
                None => return Ok(Listed { rows, calls, by_id: false, malformed: Vec::new() }),
                Some(_) if calls as usize > batches => break,
                Some(_) => {}
            }
        }
        *filters = true;
    }
    let (mut rows, mut malformed) = (Vec::new(), Vec::new());
    for batch in ids.chunks(FILTER_VALUES) {
        calls += 1;
        let (found, bad) = associations(ec2, batch).await?;
        rows.extend(found);
        malformed.extend(bad);
    }
    // Where the bindings have become many, the pages are tried again.
    *filters = batches < 5;
    Ok(Listed { rows, calls, by_id: true, malformed })
}

/// The associations of a batch, and the ids that EC2 calls malformed. One such id fails the call for all, so
/// the batch is halved until the bad ones stand alone.
pub async fn associations(ec2: &Ec2, batch: &[InstanceId]) -> Result<(Vec<Row>, Vec<InstanceId>), Error> {
    let (mut rows, mut malformed, mut todo) = (Vec::new(), Vec::new(), vec![batch]);
    while let Some(part) = todo.pop() {
        match ec2.associations_of(part).await {
            Ok(found) => rows.extend(found),
            Err(error) if error.meaning() == Meaning::InstanceMalformed => {
                halve(part, &mut todo, &mut malformed)
            }
            Err(error) => return Err(error),
        }
    }
    Ok((rows, malformed))
}

/// The states of a batch, and the ids that EC2 calls malformed.
pub async fn instances(
    ec2: &Ec2,
    batch: &[InstanceId],
) -> Result<(HashMap<InstanceId, Instance>, Vec<InstanceId>), Error> {
    let (mut all, mut malformed, mut todo) = (HashMap::new(), Vec::new(), vec![batch]);
    while let Some(part) = todo.pop() {
        match ec2.instances(part).await {
            Ok(found) => all.extend(found),
            Err(error) if error.meaning() == Meaning::InstanceMalformed => {
                halve(part, &mut todo, &mut malformed)
            }
            Err(error) => return Err(error),
        }
    }
    Ok((all, malformed))
}

fn halve<'a>(part: &'a [InstanceId], todo: &mut Vec<&'a [InstanceId]>, malformed: &mut Vec<InstanceId>) {
    if let [single] = part {
        malformed.push(single.clone());
        return;
    }
    let (left, right) = part.split_at(part.len() / 2);
    todo.extend([left, right]);
}
