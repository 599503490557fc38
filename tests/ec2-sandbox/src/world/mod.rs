//! The state machine: accounts, their IAM, and one EC2 for each account and Region.
//!
//! No socket, clock or lock in here. Every call takes the time as an argument and is a plain function of the
//! world before it, so that the same calls at the same times give the same answers (ids included: they come
//! from the seed). The four calls that matter stand in `associate`, `replace`, `disassociate` and
//! `describe_associations`; what an instance is, in `instance` and `association`.

mod access;
mod arn;
mod associate;
mod association;
mod authorize;
mod describe_associations;
mod describe_instances;
mod disassociate;
mod guest;
mod iam;
mod ids;
mod instance;
mod launch;
mod lifecycle;
mod mint;
mod page;
mod profiles;
mod region;
mod replace;
mod resolve;
mod roles;
mod seed;
mod stick;
mod sts;
mod tags;
mod target;
mod truth;

use std::collections::HashMap;

pub use access::{Caller, Scope, default_account, is_account};
pub use arn::partition_of;
pub use association::{AssociationState, AssociationView, ProfileRef};
pub use describe_associations::{DescribeAssociations, DescribedAssociations};
pub use describe_instances::{DescribeInstances, DescribedInstances, InstanceView};
pub use guest::{Carried, GuestStep};
pub use iam::{ProfileView, RoleView};
pub use ids::is_instance_id;
pub use instance::{InstanceState, Launch, Tags};
pub use launch::{LaunchRequest, StateChange};
pub use page::Filter;
pub use profiles::ProfilePage;
pub use resolve::ProfileSpec;
pub use seed::{SeedInstances, SeedProfile, SeededInstances};
pub use stick::Forced;
pub use sts::{AssumeRole, Credentials};
pub use target::Target;
pub use truth::{InstanceTruth, RowTruth};

use crate::settings::Settings;

/// Everything there is.
#[derive(Debug)]
pub struct World {
    /// How long things take; may be changed at any time and then holds for what is caused afterwards.
    pub settings: Settings,
    accounts: HashMap<(String, String), iam::Iam>,
    regions: HashMap<(String, String), region::Ec2>,
    access: access::Access,
    policies: authorize::Policies,
    mint: mint::Mint,
}

impl World {
    /// An empty world.
    pub fn new(settings: Settings) -> Self {
        Self {
            mint: mint::Mint::new(settings.seed),
            settings,
            accounts: HashMap::new(),
            regions: HashMap::new(),
            access: access::Access::default(),
            policies: authorize::Policies::default(),
        }
    }

    fn iam(&mut self, scope: &Scope) -> &mut iam::Iam {
        self.iam_of(scope.partition(), &scope.account)
    }

    fn iam_of(&mut self, partition: &str, account: &str) -> &mut iam::Iam {
        self.accounts.entry((partition.to_owned(), account.to_owned())).or_default()
    }

    fn ec2(&mut self, scope: &Scope) -> &mut region::Ec2 {
        self.ec2_of(&scope.account, &scope.region)
    }

    fn ec2_of(&mut self, account: &str, region: &str) -> &mut region::Ec2 {
        self.regions.entry((account.to_owned(), region.to_owned())).or_default()
    }
}

#[cfg(test)]
mod tests;
