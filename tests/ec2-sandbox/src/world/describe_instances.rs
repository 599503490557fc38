//! `DescribeInstances`.

use std::sync::Arc;

use super::association::ProfileRef;
use super::ids::{check_instance_id, is_instance_id};
use super::instance::{Instance, InstanceState, Launch, Tags};
use super::page::{Cursor, Filter, check_filters, page_limit, take};
use super::{Scope, World};
use crate::error::ApiError;
use crate::policy::wildcard_matches;
use crate::time::Millis;

/// The request.
#[derive(Debug, Clone, Default)]
pub struct DescribeInstances {
    /// `InstanceId.N`; one that is unknown fails the call.
    pub ids: Vec<String>,
    /// `Filter.N`: `instance-id`, `instance-state-name`, `tag:…`, `tag-key`, `iam-instance-profile.arn`.
    pub filters: Vec<Filter>,
    /// `MaxResults`.
    pub max_results: Option<i64>,
    /// `NextToken`.
    pub token: Option<String>,
    /// `DryRun`.
    pub dry_run: bool,
    /// Look this much further into the past than the settings say (a fault).
    pub stale_ms: Millis,
    /// Give a page of at most so many instances, whatever was asked (a fault).
    pub partial: Option<usize>,
}

/// An instance as a reply shows it.
#[derive(Debug, Clone)]
pub struct InstanceView {
    /// The id.
    pub id: Arc<str>,
    /// The state at the moment read.
    pub state: InstanceState,
    /// The tags at the moment read.
    pub tags: Arc<Tags>,
    /// The profile shown at the moment read.
    pub profile: Option<Arc<ProfileRef>>,
    /// What it was launched as.
    pub launch: Arc<Launch>,
}

/// The reply.
#[derive(Debug, Clone)]
pub struct DescribedInstances {
    /// In no order that means anything.
    pub instances: Vec<InstanceView>,
    /// Where the next page begins.
    pub token: Option<String>,
}

impl World {
    /// `DescribeInstances`, as of some moment ago.
    ///
    /// # Errors
    /// As EC2 gives them; aws-semantics 1.5.
    pub fn describe_instances(
        &mut self,
        now: Millis,
        scope: &Scope,
        request: &DescribeInstances,
    ) -> Result<DescribedInstances, ApiError> {
        request.ids.iter().try_for_each(|id| check_instance_id(id))?;
        self.authorize_read(scope, "ec2:DescribeInstances")?;
        check(&request.filters)?;
        if !request.ids.is_empty() && request.max_results.is_some() {
            let message = "The parameter instancesSet cannot be used with the parameter maxResults";
            return Err(ApiError::bad("InvalidParameterCombination", message));
        }
        if request.max_results.is_some_and(|rows| !(5..=1000).contains(&rows)) {
            let message = "Value for parameter maxResults is invalid. Expecting a value from 5 to 1000.";
            return Err(ApiError::invalid_value(message));
        }
        let limit = page_limit(request.max_results, self.settings.page_size)?
            .min(request.partial.unwrap_or(usize::MAX));
        let cursor = Cursor::read(
            ("instances", &scope.account, &scope.region, &request.ids, &request.filters),
            request.token.as_deref(),
        )?;
        if request.dry_run {
            return Err(ApiError::dry_run());
        }
        let lag = self.settings.instances_lag_ms.saturating_add(request.stale_ms);
        let at = self.read_moment(now).saturating_sub(lag);
        let (shuffle, tombstone) = (self.settings.shuffle_rows, self.settings.tombstone_ms);
        let ec2 = self.ec2(scope);
        let listed = |instance: &&Instance| instance.is_listed(at, tombstone);
        let select = |instance: &Instance| {
            let fitting = request.filters.iter().all(|filter| fits(filter, instance, at));
            fitting.then(|| instance.look(at)).flatten().map(|view| (instance.serial, view))
        };
        let (mut instances, token) = match named(request) {
            Some(ids) => {
                let mut found: Vec<&Instance> =
                    ids.iter().filter_map(|id| ec2.get(id)).filter(listed).collect();
                if !request.ids.is_empty() {
                    all_found(&request.ids, &found)?;
                }
                found.sort_unstable_by_key(|instance| std::cmp::Reverse(instance.serial));
                found.dedup_by_key(|instance| instance.serial);
                take(found.into_iter().filter_map(select), limit.max(request.ids.len()), cursor)
            }
            None => take(ec2.newest_first(cursor.below).filter(listed).filter_map(select), limit, cursor),
        };
        if shuffle {
            self.mint.shuffle(&mut instances);
        }
        Ok(DescribedInstances { instances, token })
    }
}

impl Instance {
    /// How the instance looks at `at`.
    pub(super) fn look(&self, at: Millis) -> Option<InstanceView> {
        Some(InstanceView {
            id: self.id.clone(),
            state: self.state(at)?,
            tags: self.tags(at).cloned().unwrap_or_default(),
            profile: self.shown_profile(at).cloned(),
            launch: self.launch.clone(),
        })
    }
}

/// The ids a request is limited to, if it is: then no listing is walked.
fn named(request: &DescribeInstances) -> Option<&[String]> {
    if !request.ids.is_empty() {
        return Some(&request.ids);
    }
    let exact =
        |filter: &&Filter| filter.name == "instance-id" && filter.values.iter().all(|id| is_instance_id(id));
    request.filters.iter().find(exact).map(|filter| filter.values.as_slice())
}

fn all_found(asked: &[String], found: &[&Instance]) -> Result<(), ApiError> {
    let missing: Vec<&str> = asked
        .iter()
        .map(String::as_str)
        .filter(|id| !found.iter().any(|instance| *instance.id == **id))
        .collect();
    let message = match missing.as_slice() {
        [] => return Ok(()),
        [one] => format!("The instance ID '{one}' does not exist"),
        many => format!("The instance IDs '{}' do not exist", many.join(", ")),
    };
    Err(ApiError::bad("InvalidInstanceID.NotFound", message))
}

fn check(filters: &[Filter]) -> Result<(), ApiError> {
    check_filters(filters)?;
    for filter in filters {
        match filter.name.as_str() {
            "instance-id" | "iam-instance-profile.arn" | "tag-key" => {}
            "instance-state-name" => {
                if let Some(bad) = filter.values.iter().find(|value| InstanceState::named(value).is_none()) {
                    let message = format!("Invalid value '{bad}' for instance-state-name");
                    return Err(ApiError::invalid_value(message));
                }
            }
            name if name.strip_prefix("tag:").is_some_and(|key| !key.is_empty()) => {}
            other => return Err(ApiError::invalid_value(format!("The filter '{other}' is invalid"))),
        }
    }
    Ok(())
}

fn fits(filter: &Filter, instance: &Instance, at: Millis) -> bool {
    let any = |text: &str| filter.values.iter().any(|value| value == text || wildcard_matches(value, text));
    let tags = || instance.tags(at).into_iter().flat_map(|tags| tags.iter());
    match filter.name.as_str() {
        "instance-id" => any(&instance.id),
        "instance-state-name" => instance.state(at).is_some_and(|state| any(state.name())),
        "iam-instance-profile.arn" => instance.shown_profile(at).is_some_and(|profile| any(&profile.arn)),
        "tag-key" => tags().any(|(key, _)| any(key)),
        name => {
            let wanted = name.strip_prefix("tag:").unwrap_or_default();
            instance.tags(at).and_then(|tags| tags.get(wanted)).is_some_and(|value| any(value))
        }
    }
}
