//! The cheaper way to list: all pages of the Region, or id filters for the few that matter.

use std::collections::HashMap;

use super::client::{Ec2, FILTER_VALUES, Read, ReadToken, Row};
use super::error::{Error, Meaning};
use crate::decide::Instance;
use crate::ids::InstanceId;

/// What a listing saw.
#[derive(Debug)]
pub struct Listed {
    /// Calls made, those that EC2 throttled aside.
    pub calls: usize,
    /// Whether each instance was asked for by its id, so that a missing row means that there is none.
    pub by_id: bool,
    /// Ids that EC2 calls malformed.
    pub malformed: Vec<InstanceId>,
}

/// What a listing finds on its way.
#[derive(Debug)]
pub enum Part {
    /// These rows.
    Rows(Vec<Row>),
    /// What was found so far counts no more.
    Anew,
}

/// How many pages the Region takes: as many as the last listing had, or at least as many as it was given up after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pages(Option<usize>);

/// Lists the associations of these instances with as few calls as may be: pages of 1000 over the whole Region,
/// unless that takes more calls than filters of 200 ids. The size of the Region shows only on the way, so the
/// pages are given up where they become the dearer way, and `pages` remembers it for the next time. `found` gets the rows
/// of each call, those of other instances too; it begins anew where the way is changed.
pub async fn list(
    ec2: &Ec2,
    ids: &[InstanceId],
    mut found: impl FnMut(Part),
    pages: &mut Pages,
) -> Result<Listed, Error> {
    let batches = ids.len().div_ceil(FILTER_VALUES);
    let mut calls = 0;
    if batches > 1 && pages.0.is_none_or(|pages| pages <= batches) {
        let mut next = None;
        loop {
            let (page, following) = page(ec2, next.as_deref()).await?;
            calls += 1;
            found(Part::Rows(page));
            next = following;
            *pages = Pages(Some(calls + usize::from(next.is_some())));
            match next {
                None => return Ok(Listed { calls, by_id: false, malformed: Vec::new() }),
                Some(_) if calls >= batches => break,
                Some(_) => {}
            }
        }
    }
    found(Part::Anew);
    let mut malformed = Vec::new();
    for batch in ids.chunks(FILTER_VALUES) {
        calls += 1;
        let token = ec2.read_token(Read::Associations).await;
        let (rows, bad) = associations(ec2, token, batch).await?;
        found(Part::Rows(rows));
        malformed.extend(bad);
    }
    Ok(Listed { calls, by_id: true, malformed })
}

/// So often a page that EC2 throttled is asked for again. Each throttle has emptied our bucket, so a try waits until there
/// is a token.
const TRIES: u32 = 5;

/// One page of the Region. One that is throttled does not lose those before it.
async fn page(ec2: &Ec2, after: Option<&str>) -> Result<(Vec<Row>, Option<String>), Error> {
    let mut tries = 0;
    loop {
        let token = ec2.read_token(Read::Associations).await;
        tries += 1;
        match ec2.associations_page(token, after.map(str::to_owned)).await {
            Err(error) if error.meaning() == Meaning::Throttled && tries < TRIES => {
                tracing::debug!(%error, tries, "a page is asked for again");
            }
            answer => return answer,
        }
    }
}

/// The associations of a batch, and the ids that EC2 calls malformed. One such id fails the call for all, so
/// the batch goes without those that EC2 names; where it names none, it is halved until the bad ones stand alone.
pub async fn associations(
    ec2: &Ec2,
    token: ReadToken,
    batch: &[InstanceId],
) -> Result<(Vec<Row>, Vec<InstanceId>), Error> {
    let (mut rows, mut malformed, mut todo, mut token) =
        (Vec::new(), Vec::new(), vec![batch.to_vec()], Some(token));
    while let Some(part) = todo.pop() {
        let token = match token.take() {
            Some(token) => token,
            None => ec2.read_token(Read::Associations).await,
        };
        match ec2.associations_of(token, &part).await {
            Ok(found) => rows.extend(found),
            Err(error) if error.meaning() == Meaning::InstanceMalformed => {
                leave_out(part, &error, &mut todo, &mut malformed)
            }
            Err(error) => return Err(error),
        }
    }
    Ok((rows, malformed))
}

/// The states of a batch, and the ids that EC2 calls malformed.
pub async fn instances(
    ec2: &Ec2,
    token: ReadToken,
    batch: &[InstanceId],
) -> Result<(HashMap<InstanceId, Instance>, Vec<InstanceId>), Error> {
    let (mut all, mut malformed, mut todo, mut token) =
        (HashMap::new(), Vec::new(), vec![batch.to_vec()], Some(token));
    while let Some(part) = todo.pop() {
        let token = match token.take() {
            Some(token) => token,
            None => ec2.read_token(Read::Instances).await,
        };
        match ec2.instances(token, &part).await {
            Ok(found) => all.extend(found),
            Err(error) if error.meaning() == Meaning::InstanceMalformed => {
                leave_out(part, &error, &mut todo, &mut malformed)
            }
            Err(error) => return Err(error),
        }
    }
    Ok((all, malformed))
}

/// What is left to ask for after EC2 refused a batch for an id in it: all but those it names, or either half.
fn leave_out(
    part: Vec<InstanceId>,
    refusal: &Error,
    todo: &mut Vec<Vec<InstanceId>>,
    malformed: &mut Vec<InstanceId>,
) {
    let alone = part.len() == 1;
    let (named, mut rest): (Vec<_>, Vec<_>) =
        part.into_iter().partition(|id| alone || refusal.names(id.as_str()));
    let half = if named.is_empty() { rest.len() / 2 } else { 0 };
    malformed.extend(named);
    let other = rest.split_off(half);
    todo.extend([rest, other].into_iter().filter(|part| !part.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(all: &[&str]) -> Vec<InstanceId> {
        all.iter().map(|id| InstanceId::parse(id).unwrap()).collect()
    }

    #[test]
    fn who_is_named_is_left_out_and_where_nobody_is_the_batch_is_halved() {
        let (short, long, other) = ("i-0123abcd", "i-0123abcd456789012", "i-00000000000000000");
        let named = |id: &str| format!("A filter with an invalid instance-id of '{id}' was given");
        for (story, message, part, bad, left) in [
            ("one is named", named(other), vec![short, other, long], vec![other], vec![vec![short, long]]),
            ("a name within a longer one", named(long), vec![short, long], vec![long], vec![vec![short]]),
            ("the only one left", named(long), vec![long], vec![long], vec![]),
            (
                "nobody is named",
                "bad id".into(),
                vec![short, long, other],
                vec![],
                vec![vec![short], vec![long, other]],
            ),
            (
                "somebody who was not asked for",
                named("i-9"),
                vec![short, long],
                vec![],
                vec![vec![short], vec![long]],
            ),
            ("alone", "bad id".into(), vec![short], vec![short], vec![]),
        ] {
            let refusal = Error::Refused {
                operation: "DescribeInstances",
                meaning: Meaning::InstanceMalformed,
                code: "InvalidParameterValue".into(),
                message,
                request_id: None,
            };
            let (mut todo, mut malformed) = (Vec::new(), Vec::new());
            leave_out(ids(&part), &refusal, &mut todo, &mut malformed);
            assert_eq!(malformed, ids(&bad), "{story}");
            assert_eq!(todo, left.iter().map(|part| ids(part)).collect::<Vec<_>>(), "{story}");
        }
    }
}
