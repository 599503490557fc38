//! `CreateTags` and `DeleteTags`, on instances.

use std::sync::Arc;

use super::instance::Tags;
use super::{Scope, World};
use crate::error::ApiError;
use crate::policy::Context;
use crate::time::Millis;

impl World {
    /// `CreateTags`.
    ///
    /// # Errors
    /// As EC2 gives them: ids, reserved or overlong tags, denials.
    pub fn create_tags(
        &mut self,
        now: Millis,
        scope: &Scope,
        resources: &[String],
        tags: &Tags,
        dry_run: bool,
    ) -> Result<(), ApiError> {
        if tags.is_empty() {
            return Err(ApiError::missing("Tag"));
        }
        check(tags)?;
        let requested =
            tags.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect::<Vec<_>>();
        self.check_tagging(now, scope, resources, &requested, "ec2:CreateTags")?;
        if dry_run {
            return Err(ApiError::dry_run());
        }
        self.retag(now, scope, resources, |old| old.extend(tags.clone()))
    }

    /// `DeleteTags`: a tag with a value goes only if it has that value; without any tag named, all go.
    ///
    /// # Errors
    /// As EC2 gives them: ids, denials.
    pub fn delete_tags(
        &mut self,
        now: Millis,
        scope: &Scope,
        resources: &[String],
        tags: &[(String, Option<String>)],
        dry_run: bool,
    ) -> Result<(), ApiError> {
        self.check_tagging(now, scope, resources, tags, "ec2:DeleteTags")?;
        if dry_run {
            return Err(ApiError::dry_run());
        }
        self.retag(now, scope, resources, |old| {
            let named = |key: &str, value: &str| {
                tags.iter().any(|(k, v)| k == key && v.as_ref().is_none_or(|v| v == value))
            };
            old.retain(|key, value| !(tags.is_empty() && !key.starts_with("aws:") || named(key, value)));
        })
    }

    fn check_tagging(
        &mut self,
        now: Millis,
        scope: &Scope,
        resources: &[String],
        tags: &[(String, Option<String>)],
        action: &str,
    ) -> Result<(), ApiError> {
        if resources.is_empty() {
            return Err(ApiError::missing("ResourceId"));
        }
        let tombstone = self.settings.tombstone_ms;
        for id in resources {
            if !id.starts_with("i-") {
                let message = format!("The ID '{id}' is not valid");
                return Err(ApiError::bad("InvalidID", message));
            }
            let instance = self.ec2(scope).existing(id, now, tombstone)?;
            let mut context = Context::default().with("ec2:InstanceID", id);
            for (key, value) in instance.tags(now).into_iter().flat_map(|tags| tags.iter()) {
                context = context
                    .with(&format!("aws:ResourceTag/{key}"), value)
                    .with(&format!("ec2:ResourceTag/{key}"), value);
            }
            for (key, value) in tags {
                context = context.with("aws:TagKeys", key);
                if let Some(value) = value {
                    context = context.with(&format!("aws:RequestTag/{key}"), value);
                }
            }
            self.authorize_ec2(scope, action, id, context)?;
        }
        Ok(())
    }

    fn retag(
        &mut self,
        now: Millis,
        scope: &Scope,
        resources: &[String],
        change: impl Fn(&mut Tags),
    ) -> Result<(), ApiError> {
        let mut changed = Vec::new();
        for id in resources {
            let Some(instance) = self.ec2(scope).get(id) else { continue };
            let mut tags = instance.tags(now).map(|tags| Tags::clone(tags)).unwrap_or_default();
            change(&mut tags);
            if tags.keys().filter(|key| !key.starts_with("aws:")).count() > 50 {
                let message = "The number of tags exceeds the limit of 50";
                return Err(ApiError::bad("TagLimitExceeded", message));
            }
            changed.push((id, Arc::new(tags)));
        }
        for (id, tags) in changed {
            if let Some(instance) = self.ec2(scope).get_mut(id) {
                instance.tags.set(now, tags);
            }
        }
        Ok(())
    }
}

/// EC2's rules for tags given by users.
pub fn check(tags: &Tags) -> Result<(), ApiError> {
    for (key, value) in tags {
        if key.to_ascii_lowercase().starts_with("aws:") {
            let message = "Tag keys starting with 'aws:' are reserved for internal use";
            return Err(ApiError::invalid_value(message));
        }
        if key.is_empty() || key.chars().count() > 127 || value.chars().count() > 255 {
            let message = "Tag key exceeds the maximum length of 127 characters, or value that of 255";
            return Err(ApiError::invalid_value(message));
        }
    }
    Ok(())
}
