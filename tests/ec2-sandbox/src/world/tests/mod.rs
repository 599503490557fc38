//! Stories of the state machine. Time is a number: nothing here waits.

mod access;
mod associations;
mod reads;
mod times;

use serde_json::{Value, json};

use super::*;
use crate::error::ApiError;
use crate::settings::Settings;
use crate::time::Millis;

const ID: &str = "i-0123456789abcdef0";
const REGION: &str = "eu-west-1";
/// A moment long after everything seeded.
const T: Millis = 1_000_000;

/// A world with profiles `app`, `other`, `empty` (no role) and `broken` (a role EC2 may not assume), and one
/// instance.
struct Story {
    world: World,
    scope: Scope,
}

impl Story {
    fn with(state: &str, profile: Option<&str>) -> Self {
        let mut world =
            World::new(Settings { shuffle_rows: false, instances_lag_ms: 0, ..Settings::default() });
        for profile in [
            json!({"name": "app"}),
            json!({"name": "other", "path": "/team/"}),
            json!({"name": "empty", "roleName": null}),
            json!({"name": "broken", "trusted": false}),
        ] {
            world.seed_profile(0, &from(profile)).unwrap();
        }
        let seed = json!({"region": REGION, "ids": [ID], "state": state, "profile": profile});
        world.seed_instances(0, &from(seed)).unwrap();
        let scope = world.identify(0, "ec2", REGION, "AKIA123456789012ME", None).unwrap();
        Self { world, scope }
    }

    fn running() -> Self {
        Self::with("running", None)
    }

    fn associate(&mut self, now: Millis, profile: &str) -> Result<AssociationView, ApiError> {
        self.world.associate(now, &self.scope, ID, &ProfileSpec::of(profile), false)
    }

    fn replace(
        &mut self,
        now: Millis,
        association: &str,
        profile: &str,
    ) -> Result<AssociationView, ApiError> {
        self.world.replace(now, &self.scope, association, &ProfileSpec::of(profile), false)
    }

    fn disassociate(&mut self, now: Millis, association: &str) -> Result<AssociationView, ApiError> {
        self.world.disassociate(now, &self.scope, association, false)
    }

    fn rows(&mut self, now: Millis) -> Vec<(String, AssociationState)> {
        let request = DescribeAssociations::default();
        let rows = self.world.describe_associations(now, &self.scope, &request).unwrap().rows;
        rows.into_iter().map(|row| (name_of(&row.profile.arn).to_owned(), row.state)).collect()
    }

    /// The id of the one living row.
    fn row_id(&mut self, now: Millis) -> String {
        let request = DescribeAssociations::default();
        let rows = self.world.describe_associations(now, &self.scope, &request).unwrap().rows;
        assert_eq!(rows.len(), 1);
        rows[0].id.to_string()
    }

    fn shown(&mut self, now: Millis) -> (InstanceState, Option<String>) {
        let request = DescribeInstances { ids: vec![ID.to_owned()], ..DescribeInstances::default() };
        let instances = self.world.describe_instances(now, &self.scope, &request).unwrap().instances;
        (instances[0].state, instances[0].profile.as_ref().map(|profile| name_of(&profile.arn).to_owned()))
    }

    fn guest(&self, now: Millis) -> Vec<(Millis, String)> {
        let steps = self.world.timeline("123456789012", REGION, ID, now).unwrap();
        steps
            .iter()
            .map(|step| {
                let carried = match &step.carried {
                    None => "down".to_owned(),
                    Some(Carried::Nothing) => "nothing".to_owned(),
                    Some(Carried::Credentials { role, .. }) => name_of(role).to_owned(),
                    Some(Carried::Unauthorized { .. }) => "unauthorized".to_owned(),
                };
                (step.from, carried)
            })
            .collect()
    }
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn name_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    result.unwrap_err().code
}
