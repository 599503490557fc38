//! EC2's actions.

use super::ec2_xml as render;
use super::{Params, Twist};
use crate::error::ApiError;
use crate::time::Millis;
use crate::world::{DescribeAssociations, DescribeInstances, LaunchRequest, Scope, Tags, World};

pub fn carry_out(
    world: &mut World,
    now: Millis,
    scope: &Scope,
    action: &str,
    params: Params,
    twist: Twist,
) -> Result<String, ApiError> {
    match action {
        "DescribeIamInstanceProfileAssociations" => describe_associations(world, now, scope, params, twist),
        "AssociateIamInstanceProfile" => associate(world, now, scope, params),
        "ReplaceIamInstanceProfileAssociation" => replace(world, now, scope, params),
        "DisassociateIamInstanceProfile" => disassociate(world, now, scope, params),
        "DescribeInstances" => describe_instances(world, now, scope, params, twist),
        "RunInstances" => run_instances(world, now, scope, params),
        "StartInstances" | "StopInstances" | "TerminateInstances" => {
            change_states(world, now, scope, action, params)
        }
        "CreateTags" | "DeleteTags" => change_tags(world, now, scope, action, params),
        other => Err(ApiError::bad(
            "InvalidAction",
            format!("The action {other} is not valid for this web service."),
        )),
    }
}

fn describe_associations(
    world: &mut World,
    now: Millis,
    scope: &Scope,
    mut params: Params,
    twist: Twist,
) -> Result<String, ApiError> {
    let request = DescribeAssociations {
        ids: params.list("AssociationId"),
        filters: params.filters()?,
        max_results: params.number("MaxResults")?,
        token: params.take("NextToken"),
        dry_run: params.flag("DryRun")?,
        stale_ms: twist.stale_ms,
        partial: twist.partial,
    };
    params.finish()?;
    world.describe_associations(now, scope, &request).map(|described| render::associations(&described))
}

fn associate(world: &mut World, now: Millis, scope: &Scope, mut params: Params) -> Result<String, ApiError> {
    let (instance, spec, dry_run) =
        (params.take("InstanceId").unwrap_or_default(), params.profile(), params.flag("DryRun")?);
    params.finish()?;
    world.associate(now, scope, &instance, &spec, dry_run).map(|row| render::association(&row))
}

fn replace(world: &mut World, now: Millis, scope: &Scope, mut params: Params) -> Result<String, ApiError> {
    let (association, spec, dry_run) =
        (params.take("AssociationId").unwrap_or_default(), params.profile(), params.flag("DryRun")?);
    params.finish()?;
    world.replace(now, scope, &association, &spec, dry_run).map(|row| render::association(&row))
}

fn disassociate(
    world: &mut World,
    now: Millis,
    scope: &Scope,
    mut params: Params,
) -> Result<String, ApiError> {
    let (association, dry_run) = (params.take("AssociationId").unwrap_or_default(), params.flag("DryRun")?);
    params.finish()?;
    world.disassociate(now, scope, &association, dry_run).map(|row| render::association(&row))
}

fn describe_instances(
    world: &mut World,
    now: Millis,
    scope: &Scope,
    mut params: Params,
    twist: Twist,
) -> Result<String, ApiError> {
    let request = DescribeInstances {
        ids: params.list("InstanceId"),
        filters: params.filters()?,
        max_results: params.number("MaxResults")?,
        token: params.take("NextToken"),
        dry_run: params.flag("DryRun")?,
        stale_ms: twist.stale_ms,
        partial: twist.partial,
    };
    params.finish()?;
    let described = world.describe_instances(now, scope, &request)?;
    Ok(render::reservations(scope, &described))
}

fn run_instances(
    world: &mut World,
    now: Millis,
    scope: &Scope,
    mut params: Params,
) -> Result<String, ApiError> {
    let count = |number: i64| u32::try_from(number).unwrap_or(0);
    let profile = params.profile();
    let request = LaunchRequest {
        image_id: params.take("ImageId").unwrap_or_default(),
        instance_type: params.take("InstanceType").unwrap_or_else(|| "m1.small".to_owned()),
        min: count(params.number("MinCount")?.ok_or_else(|| ApiError::missing("MinCount"))?),
        max: count(params.number("MaxCount")?.ok_or_else(|| ApiError::missing("MaxCount"))?),
        profile: (profile.arn.is_some() || profile.name.is_some()).then_some(profile),
        tags: with_values(params.tags_for_instances()?),
        client_token: params.take("ClientToken"),
        dry_run: params.flag("DryRun")?,
    };
    params.finish()?;
    let launched = world.run_instances(now, scope, &request)?;
    Ok(render::reservation(scope, &launched))
}

fn change_states(
    world: &mut World,
    now: Millis,
    scope: &Scope,
    action: &str,
    mut params: Params,
) -> Result<String, ApiError> {
    let (ids, dry_run) = (params.list("InstanceId"), params.flag("DryRun")?);
    params.finish()?;
    let changes = match action {
        "StartInstances" => world.start_instances(now, scope, &ids, dry_run),
        "StopInstances" => world.stop_instances(now, scope, &ids, dry_run),
        _ => world.terminate_instances(now, scope, &ids, dry_run),
    }?;
    Ok(render::state_changes(&changes))
}

fn change_tags(
    world: &mut World,
    now: Millis,
    scope: &Scope,
    action: &str,
    mut params: Params,
) -> Result<String, ApiError> {
    let (resources, tags) = (params.list("ResourceId"), params.tags("Tag")?);
    let dry_run = params.flag("DryRun")?;
    params.finish()?;
    if action == "CreateTags" {
        world.create_tags(now, scope, &resources, &with_values(tags), dry_run)?;
    } else {
        world.delete_tags(now, scope, &resources, &tags, dry_run)?;
    }
    Ok("<return>true</return>".to_owned())
}

fn with_values(tags: Vec<(String, Option<String>)>) -> Tags {
    tags.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect()
}
