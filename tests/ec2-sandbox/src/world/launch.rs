//! `RunInstances`.

use std::sync::Arc;

use super::associate::becomes_effective;
use super::association::{Association, ProfileRef};
use super::guest::Carried;
use super::instance::{Instance, InstanceState, Launch, Tags};
use super::resolve::ProfileSpec;
use super::{InstanceView, Scope, World};
use crate::error::ApiError;
use crate::time::{History, Millis};

/// The request.
#[derive(Debug, Clone, Default)]
pub struct LaunchRequest {
    /// `ImageId`.
    pub image_id: String,
    /// `InstanceType`.
    pub instance_type: String,
    /// `MinCount`.
    pub min: u32,
    /// `MaxCount`; so many are launched.
    pub max: u32,
    /// `IamInstanceProfile`.
    pub profile: Option<ProfileSpec>,
    /// Tags for the instances.
    pub tags: Tags,
    /// `ClientToken`: the same again answers with the same instances.
    pub client_token: Option<String>,
    /// `DryRun`.
    pub dry_run: bool,
}

/// What Start, Stop and Terminate answer for each instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The instance.
    pub id: Arc<str>,
    /// Before.
    pub previous: InstanceState,
    /// Now.
    pub current: InstanceState,
}

impl World {
    /// `RunInstances`.
    ///
    /// # Errors
    /// As EC2 gives them: parameters, an unknown profile, a denial (also of `iam:PassRole`).
    pub fn run_instances(
        &mut self,
        now: Millis,
        scope: &Scope,
        request: &LaunchRequest,
    ) -> Result<Vec<InstanceView>, ApiError> {
        let profile = self.check_launch(now, scope, request)?;
        let token = request.client_token.as_ref();
        if let Some(before) = token.and_then(|token| self.ec2(scope).launches.get(token)).cloned() {
            return Ok(self.launched(now, scope, &before));
        }
        let launch = Arc::new(Launch {
            image_id: request.image_id.clone(),
            instance_type: request.instance_type.clone(),
            reservation: self.mint.hex17("r-").to_string(),
            at: now,
            managed: false,
        });
        let tags = Arc::new(request.tags.clone());
        let ids: Vec<Arc<str>> =
            (0..request.max).map(|_| self.launch_one(now, scope, &launch, &tags, profile.as_ref())).collect();
        if let Some(token) = token {
            self.ec2(scope).launches.insert(token.clone(), ids.clone());
        }
        Ok(self.launched(now, scope, &ids))
    }

    fn check_launch(
        &mut self,
        now: Millis,
        scope: &Scope,
        request: &LaunchRequest,
    ) -> Result<Option<Arc<ProfileRef>>, ApiError> {
        if request.image_id.is_empty() {
            return Err(ApiError::missing("ImageId"));
        }
        if request.min == 0 || request.max < request.min || request.max > 1000 {
            let message = "MinCount and MaxCount: at least 1, at most 1000, MinCount not above MaxCount";
            return Err(ApiError::invalid_value(message));
        }
        super::tags::check(&request.tags)?;
        let profile = match &request.profile {
            Some(spec) => Some(self.resolve(now, scope, spec)?),
            None => None,
        };
        match &profile {
            Some(profile) => self.authorize_attach(now, scope, "ec2:RunInstances", "*", profile)?,
            None => self.authorize_instance(now, scope, "ec2:RunInstances", "*", None)?,
        }
        if request.dry_run { Err(ApiError::dry_run()) } else { Ok(profile) }
    }

    /// An instance that is pending now; its profile is effective when it runs.
    fn launch_one(
        &mut self,
        now: Millis,
        scope: &Scope,
        launch: &Arc<Launch>,
        tags: &Arc<Tags>,
        profile: Option<&Arc<ProfileRef>>,
    ) -> Arc<str> {
        let id = self.mint.hex17("i-");
        let running = now.saturating_add(self.settings.pending_ms);
        let mut states = History::starting(now, InstanceState::Pending);
        states.plan(running, InstanceState::Running);
        let mut instance = Instance {
            id: id.clone(),
            serial: self.ec2(scope).serial(),
            launch: launch.clone(),
            states,
            tags: History::starting(now, tags.clone()),
            rows: Vec::new(),
            guest: History::starting(now, Carried::Nothing),
        };
        if let Some(profile) = profile {
            let carried = self.carried_with(scope, profile);
            let association = self.mint.hex17("iip-assoc-");
            let mut row = Association::new(association, self.ec2(scope).serial(), profile.clone(), now);
            let associated = running.saturating_add(self.settings.associating_ms);
            row.associated = becomes_effective(&carried).then_some(associated);
            instance.rows = vec![row];
            instance.guest.plan(running, carried);
        }
        self.ec2(scope).insert(instance);
        id
    }

    fn launched(&mut self, now: Millis, scope: &Scope, ids: &[Arc<str>]) -> Vec<InstanceView> {
        let ec2 = self.ec2(scope);
        ids.iter().filter_map(|id| ec2.get(id)?.look(now)).collect()
    }
}
