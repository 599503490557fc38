//! `DescribeIamInstanceProfileAssociations`.

use super::association::{AssociationState, AssociationView};
use super::ids::{is_association_id, is_instance_id, no_such_association};
use super::page::{Cursor, Filter, check_filters, page_limit, take};
use super::{Scope, World};
use crate::error::ApiError;
use crate::time::Millis;

/// The request.
#[derive(Debug, Clone, Default)]
pub struct DescribeAssociations {
    /// `AssociationId.N`.
    pub ids: Vec<String>,
    /// `Filter.N`; only `instance-id` and `state` exist.
    pub filters: Vec<Filter>,
    /// `MaxResults`.
    pub max_results: Option<i64>,
    /// `NextToken`.
    pub token: Option<String>,
    /// `DryRun`.
    pub dry_run: bool,
    /// Look this much further into the past than the settings say (a fault).
    pub stale_ms: Millis,
    /// Give a page of at most so many rows, whatever was asked (a fault).
    pub partial: Option<usize>,
}

/// The reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedAssociations {
    /// Rows in no order that means anything.
    pub rows: Vec<AssociationView>,
    /// Where the next page begins.
    pub token: Option<String>,
}

/// The filters of a request, checked.
#[derive(Default)]
struct Wanted {
    instances: Option<Vec<String>>,
    states: Option<Vec<AssociationState>>,
}

impl World {
    /// `DescribeIamInstanceProfileAssociations`, as of some moment ago.
    ///
    /// # Errors
    /// As EC2 gives them; aws-semantics 1.2.
    pub fn describe_associations(
        &mut self,
        now: Millis,
        scope: &Scope,
        request: &DescribeAssociations,
    ) -> Result<DescribedAssociations, ApiError> {
        self.authorize_read(scope, "ec2:DescribeIamInstanceProfileAssociations")?;
        let wanted = Wanted::from(&request.filters)?;
        let limit = page_limit(request.max_results, self.settings.page_size)?
            .min(request.partial.unwrap_or(usize::MAX));
        if let Some(malformed) = request.ids.iter().find(|id| !is_association_id(id)) {
            return Err(ApiError::invalid_value(format!("Invalid value for association-id. {malformed}")));
        }
        let cursor = Cursor::read(
            ("associations", &scope.account, &scope.region, &request.ids, &request.filters),
            request.token.as_deref(),
        )?;
        if request.dry_run {
            return Err(ApiError::dry_run());
        }
        let at = self.read_moment(now).saturating_sub(request.stale_ms);
        let shuffle = self.settings.shuffle_rows;
        let ec2 = self.ec2(scope);
        for id in &request.ids {
            let living = ec2.of_association(id).and_then(|instance| instance.row(id)?.state(at));
            living.ok_or_else(|| no_such_association(id))?;
        }
        let candidates = match &wanted.instances {
            Some(instances) => Some(ec2.rows_of(instances).collect::<Vec<_>>()),
            None if request.ids.is_empty() => None,
            None => Some(ec2.rows_named(&request.ids).collect()),
        };
        let (mut rows, token) = match candidates {
            Some(mut found) => {
                found.sort_unstable_by_key(|(_, row)| std::cmp::Reverse(row.serial));
                found.dedup_by_key(|(_, row)| row.serial);
                take(wanted.select(found.into_iter(), &request.ids, at), limit, cursor)
            }
            None => take(wanted.select(ec2.rows_newest_first(cursor.below), &request.ids, at), limit, cursor),
        };
        if shuffle {
            self.mint.shuffle(&mut rows);
        }
        Ok(DescribedAssociations { rows, token })
    }

    /// The moment a read that is answered at `now` shows.
    pub(super) fn read_moment(&mut self, now: Millis) -> Millis {
        let jitter = self.settings.read_lag_jitter_ms;
        let jitter = if jitter == 0 { 0 } else { self.mint.up_to(jitter) };
        now.saturating_sub(self.settings.read_lag_ms).saturating_sub(jitter)
    }
}

impl Wanted {
    fn from(filters: &[Filter]) -> Result<Self, ApiError> {
        check_filters(filters)?;
        let mut wanted = Self::default();
        for filter in filters {
            match filter.name.as_str() {
                "instance-id" => {
                    if let Some(bad) = filter.values.iter().find(|value| !is_instance_id(value)) {
                        let message = format!("A filter with an invalid instance-id of '{bad}' was given");
                        return Err(ApiError::invalid_value(message));
                    }
                    let mut ids = filter.values.clone();
                    ids.sort_unstable();
                    ids.dedup();
                    ids.retain(|id| wanted.instances.as_ref().is_none_or(|before| before.contains(id)));
                    wanted.instances = Some(ids);
                }
                "state" => {
                    let states =
                        filter.values.iter().map(|value| state(value)).collect::<Result<Vec<_>, _>>()?;
                    let before = wanted.states.take();
                    let both =
                        states.into_iter().filter(|state| before.as_ref().is_none_or(|b| b.contains(state)));
                    wanted.states = Some(both.collect());
                }
                other => {
                    return Err(ApiError::invalid_value(format!("An unknown filter '{other}' was given")));
                }
            }
        }
        Ok(wanted)
    }

    fn select<'a>(
        &'a self,
        rows: impl Iterator<Item = (&'a super::instance::Instance, &'a super::association::Association)> + 'a,
        ids: &'a [String],
        at: Millis,
    ) -> impl Iterator<Item = (u64, AssociationView)> + 'a {
        rows.filter_map(move |(instance, row)| {
            let state = row.state(at)?;
            let asked = ids.is_empty() || ids.iter().any(|id| **id == *row.id);
            let fits = self.states.as_ref().is_none_or(|states| states.contains(&state));
            (asked && fits).then(|| (row.serial, row.view(&instance.id, state)))
        })
    }
}

fn state(value: &str) -> Result<AssociationState, ApiError> {
    match value {
        "associating" => Ok(AssociationState::Associating),
        "associated" => Ok(AssociationState::Associated),
        "disassociating" => Ok(AssociationState::Disassociating),
        "disassociated" => {
            Err(ApiError::invalid_value("Only 'associated', 'associating' and 'disassociating' are allowed"))
        }
        other => Err(ApiError::invalid_value(format!(
            "A filter for an unknown association state of '{other}' was given"
        ))),
    }
}
