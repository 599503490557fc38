//! The wire: the query protocols of EC2, IAM and STS, from a signed form to XML.
//!
//! Parameters are taken out of a request one by one; what is left over at the end is refused, so that nothing
//! a client says is silently ignored. `ec2`, `iam` and `sts` translate each action; none of them decides.

mod ec2;
mod ec2_xml;
mod iam;
mod params;
mod reply;
mod sign;
mod sts;
mod xml;

pub(crate) use params::Params;
pub(crate) use reply::{failure, success};
pub(crate) use sign::{Signature, not_validated, read as read_signature};

use crate::error::ApiError;
use crate::time::Millis;
use crate::world::{ProfileSpec, Scope, Target, World};

/// What a fault does to a read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Twist {
    pub stale_ms: Millis,
    pub partial: Option<usize>,
}

/// Carries out an action and renders its result.
pub(crate) fn carry_out(
    world: &mut World,
    now: Millis,
    scope: &Scope,
    (service, action): (&str, &str),
    mut params: Params,
    twist: Twist,
) -> Result<String, ApiError> {
    params.check_version(service)?;
    match service {
        "ec2" => ec2::carry_out(world, now, scope, action, params, twist),
        "iam" => iam::carry_out(world, now, scope, action, params),
        "sts" => sts::carry_out(world, now, Some(scope), action, params),
        other => Err(ApiError::bad("InvalidAction", format!("The sandbox has no service {other}"))),
    }
}

/// The one action that is not signed.
pub(crate) fn assume_role_with_web_identity(
    world: &mut World,
    now: Millis,
    mut params: Params,
) -> Result<String, ApiError> {
    params.check_version("sts")?;
    sts::carry_out(world, now, None, "AssumeRoleWithWebIdentity", params)
}

/// What a write is about; nothing for reads.
pub(crate) fn target(world: &mut World, now: Millis, scope: &Scope, action: &str, params: &Params) -> Target {
    match action {
        "AssociateIamInstanceProfile"
        | "ReplaceIamInstanceProfileAssociation"
        | "DisassociateIamInstanceProfile" => {
            let spec = ProfileSpec {
                arn: params.get("IamInstanceProfile.Arn").map(str::to_owned),
                name: params.get("IamInstanceProfile.Name").map(str::to_owned),
            };
            world.target(now, scope, params.get("InstanceId"), params.get("AssociationId"), &spec)
        }
        _ => Target::default(),
    }
}
