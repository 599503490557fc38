//! The world as it is, past all lag and permissions.

use std::sync::Arc;

use serde::Serialize;

use super::iam::{ProfileView, RoleView};
use super::instance::{Instance, Tags};
use super::{AssociationState, World};
use crate::time::Millis;

/// An instance as it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTruth {
    /// Its account.
    pub account: String,
    /// Its Region.
    pub region: String,
    /// Its id.
    pub instance_id: Arc<str>,
    /// Its state.
    pub state: &'static str,
    /// Whether EC2 manages it.
    pub managed: bool,
    /// Its tags.
    pub tags: Arc<Tags>,
    /// ARN of the profile of the row that is neither leaving nor gone.
    pub profile_arn: Option<String>,
    /// Its living rows, oldest first.
    pub rows: Vec<RowTruth>,
}

/// An association as it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RowTruth {
    /// Its id.
    pub association_id: Arc<str>,
    /// Its profile.
    pub profile_arn: String,
    /// The profile's id.
    pub profile_id: String,
    /// Its state.
    pub state: &'static str,
    /// Whether the admin API made it stick.
    pub stuck: bool,
}

impl World {
    /// All instances that the conditions given fit.
    pub fn truth(
        &self,
        now: Millis,
        account: Option<&str>,
        region: Option<&str>,
        instance: Option<&str>,
    ) -> Vec<InstanceTruth> {
        let fits = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
        let mut truth = Vec::new();
        for ((owner, place), ec2) in &self.regions {
            if !fits(account, owner) || !fits(region, place) {
                continue;
            }
            let one = instance.map(|id| ec2.get(id));
            let found: Box<dyn Iterator<Item = &Instance>> = match one {
                Some(one) => Box::new(one.into_iter()),
                None => Box::new(ec2.all()),
            };
            truth.extend(found.filter_map(|instance| instance.truth(now, owner, place)));
        }
        truth
    }

    /// All profiles, with their account.
    pub fn all_profiles(&self) -> Vec<(&str, ProfileView)> {
        let accounts = self.accounts.iter();
        accounts
            .flat_map(|((_, account), iam)| {
                iam.profiles_after("").map(|(_, profile)| (account.as_str(), iam.view(profile)))
            })
            .collect()
    }

    /// All roles, with their account.
    pub fn all_roles(&self) -> Vec<(&str, RoleView)> {
        let accounts = self.accounts.iter();
        accounts
            .flat_map(|((_, account), iam)| iam.roles().map(|role| (account.as_str(), role.view())))
            .collect()
    }
}

impl Instance {
    fn truth(&self, now: Millis, account: &str, region: &str) -> Option<InstanceTruth> {
        let rows = self.rows.iter().filter_map(|row| {
            Some(RowTruth {
                association_id: row.id.clone(),
                profile_arn: row.profile.arn.clone(),
                profile_id: row.profile.id.clone(),
                state: row.state(now).map(AssociationState::name)?,
                stuck: row.stuck,
            })
        });
        Some(InstanceTruth {
            account: account.to_owned(),
            region: region.to_owned(),
            instance_id: self.id.clone(),
            state: self.state(now)?.name(),
            managed: self.launch.managed,
            tags: self.tags(now).cloned().unwrap_or_default(),
            profile_arn: self.active(now).map(|row| row.profile.arn.clone()),
            rows: rows.collect(),
        })
    }
}
