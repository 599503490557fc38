//! STS's actions.

use super::Params;
use super::xml::Xml;
use crate::error::ApiError;
use crate::time::{Millis, iso};
use crate::world::{AssumeRole, Credentials, Scope, World};

pub fn carry_out(
    world: &mut World,
    now: Millis,
    scope: Option<&Scope>,
    action: &str,
    mut params: Params,
) -> Result<String, ApiError> {
    let mut xml = Xml::default();
    match (action, scope) {
        ("GetCallerIdentity", Some(scope)) => {
            params.finish()?;
            xml.leaf("Arn", &scope.caller.arn);
            xml.leaf("UserId", &scope.caller.user_id);
            xml.leaf("Account", &scope.account);
        }
        ("AssumeRole", Some(scope)) => {
            let request = AssumeRole {
                external_id: params.take("ExternalId"),
                source_identity: params.take("SourceIdentity"),
                ..role_of(&mut params)?
            };
            params.finish()?;
            fill(&mut xml, &world.assume_role(now, scope, &request)?);
        }
        ("AssumeRoleWithWebIdentity", _) => {
            let request = role_of(&mut params)?;
            params.required("WebIdentityToken")?;
            params.finish()?;
            fill(&mut xml, &world.assume_role_with_web_identity(now, &request)?);
        }
        (other, _) => {
            let message = format!("Could not find operation {other} for version 2011-06-15");
            return Err(ApiError::bad("InvalidAction", message));
        }
    }
    Ok(xml.finish())
}

fn role_of(params: &mut Params) -> Result<AssumeRole, ApiError> {
    Ok(AssumeRole {
        role_arn: params.required("RoleArn")?,
        session_name: params.required("RoleSessionName")?,
        duration_seconds: params.number("DurationSeconds")?,
        ..AssumeRole::default()
    })
}

fn fill(xml: &mut Xml, credentials: &Credentials) {
    xml.nest("Credentials", |xml| {
        xml.leaf("AccessKeyId", &credentials.access_key);
        xml.leaf("SecretAccessKey", &credentials.secret);
        xml.leaf("SessionToken", &credentials.token);
        xml.leaf("Expiration", &iso(credentials.expires));
    });
    xml.nest("AssumedRoleUser", |xml| {
        xml.leaf("Arn", &credentials.arn);
        xml.leaf("AssumedRoleId", &credentials.id);
    });
}
