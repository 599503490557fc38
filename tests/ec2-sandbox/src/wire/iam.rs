//! IAM's actions.

use super::Params;
use super::xml::Xml;
use crate::error::ApiError;
use crate::time::{Millis, iso};
use crate::world::{ProfilePage, ProfileView, RoleView, Scope, World};

pub fn carry_out(
    world: &mut World,
    now: Millis,
    scope: &Scope,
    action: &str,
    mut params: Params,
) -> Result<String, ApiError> {
    // Taken only where they belong; elsewhere they are left over and refused.
    let listing = action.starts_with("ListInstanceProfiles");
    let mut take =
        |name, belongs| if belongs { params.take(name).unwrap_or_default() } else { String::new() };
    let profile = take("InstanceProfileName", action.contains("InstanceProfile") && !listing);
    let role = take("RoleName", action.contains("Role"));
    let mut xml = Xml::default();
    match action {
        "CreateRole" => {
            let path = params.take("Path").unwrap_or_else(|| "/".to_owned());
            let trust = params.required("AssumeRolePolicyDocument")?;
            params.finish()?;
            let role = world.create_role(now, scope, &role, &path, &trust)?;
            xml.nest("Role", |xml| fill_role(xml, &role));
        }
        "GetRole" => {
            params.finish()?;
            let role = world.get_role(scope, &role)?;
            xml.nest("Role", |xml| fill_role(xml, &role));
        }
        "DeleteRole" => {
            params.finish()?;
            world.delete_role(scope, &role)?;
        }
        "UpdateAssumeRolePolicy" => {
            let trust = params.required("PolicyDocument")?;
            params.finish()?;
            world.update_trust(now, scope, &role, &trust)?;
        }
        "CreateInstanceProfile" => {
            let path = params.take("Path").unwrap_or_else(|| "/".to_owned());
            params.finish()?;
            let profile = world.create_profile(now, scope, &profile, &path)?;
            xml.nest("InstanceProfile", |xml| fill_profile(xml, &profile));
        }
        "GetInstanceProfile" => {
            params.finish()?;
            let profile = world.get_profile(scope, &profile)?;
            xml.nest("InstanceProfile", |xml| fill_profile(xml, &profile));
        }
        "DeleteInstanceProfile" => {
            params.finish()?;
            world.delete_profile(scope, &profile)?;
        }
        "AddRoleToInstanceProfile" => {
            params.finish()?;
            world.add_role(scope, &profile, &role)?;
        }
        "RemoveRoleFromInstanceProfile" => {
            params.finish()?;
            world.remove_role(scope, &profile, &role)?;
        }
        "ListInstanceProfiles" | "ListInstanceProfilesForRole" => {
            let prefix = if action == "ListInstanceProfiles" { params.take("PathPrefix") } else { None };
            let (max_items, marker) = (params.number("MaxItems")?, params.take("Marker"));
            params.finish()?;
            let page = match action {
                "ListInstanceProfiles" => {
                    let prefix = prefix.unwrap_or_else(|| "/".to_owned());
                    world.list_profiles(scope, &prefix, max_items, marker.as_deref())?
                }
                _ => world.list_profiles_for_role(scope, &role, max_items, marker.as_deref())?,
            };
            fill_page(&mut xml, &page);
        }
        other => {
            let message = format!("Could not find operation {other} for version 2010-05-08");
            return Err(ApiError::bad("InvalidAction", message));
        }
    }
    Ok(xml.finish())
}

fn fill_page(xml: &mut Xml, page: &ProfilePage) {
    xml.list("InstanceProfiles", "member", &page.profiles, fill_profile);
    xml.leaf("IsTruncated", if page.marker.is_some() { "true" } else { "false" });
    xml.optional("Marker", page.marker.as_deref());
}

fn fill_profile(xml: &mut Xml, profile: &ProfileView) {
    xml.leaf("Path", &profile.path);
    xml.leaf("InstanceProfileName", &profile.name);
    xml.leaf("InstanceProfileId", &profile.id);
    xml.leaf("Arn", &profile.arn);
    xml.leaf("CreateDate", &iso(profile.created));
    xml.list("Roles", "member", &profile.role, fill_role);
}

fn fill_role(xml: &mut Xml, role: &RoleView) {
    xml.leaf("Path", &role.path);
    xml.leaf("RoleName", &role.name);
    xml.leaf("RoleId", &role.id);
    xml.leaf("Arn", &role.arn);
    xml.leaf("CreateDate", &iso(role.created));
    // IAM gives the document percent-encoded.
    let document: String = form_urlencoded::byte_serialize(role.trust.as_bytes()).collect();
    xml.leaf("AssumeRolePolicyDocument", &document.replace('+', "%20"));
}
