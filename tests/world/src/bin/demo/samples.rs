//! The manifests of `deploy/samples`, read as their tools read them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use world::repository;

/// The namespace of the samples.
pub const NAMESPACE: &str = "instance-role-demo";

/// One sample.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The binding's name.
    pub name: String,
    /// The instance's id.
    pub instance: String,
    /// What was asked, in words.
    pub asked: String,
    /// `running`, `stopped` or `absent`, before.
    pub state: String,
    /// The name of the profile attached before.
    pub before: Option<String>,
    /// The profile that must exist for it, as the sandbox wants it described.
    pub profile: Option<Value>,
}

/// Where they lie.
pub fn folder() -> PathBuf {
    repository().join("deploy/samples")
}

/// All of them, in the order of their files.
pub fn read() -> Result<Vec<Sample>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder()).context("there are no samples")? {
        files.push(entry?.path());
    }
    files.sort();
    let mut samples = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml")) {
        let text = std::fs::read_to_string(file)?;
        let manifest: Value = serde_yaml::from_str(&text).with_context(|| file.display().to_string())?;
        if manifest["kind"] == "InstanceRoleBinding" {
            samples.push(Sample::parse(&manifest).with_context(|| file.display().to_string())?);
        }
    }
    Ok(samples)
}

impl Sample {
    fn parse(manifest: &Value) -> Result<Self> {
        let text = |pointer: &str| {
            let found = manifest.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
            found.map(str::to_owned)
        };
        let note = |name: &str| text(&format!("/metadata/annotations/demo.instancerole.dev~1{name}"));
        let wanted = |field: &str| text(&format!("/spec/instanceProfile/{field}"));
        let (asked, profile) = if let Some(name) = wanted("name") {
            (format!("profile {name}"), Some(json!({"name": name})))
        } else if let Some(arn) = wanted("arn") {
            let (path, name) = path_and_name(&arn).with_context(|| format!("{arn} is no profile"))?;
            (format!("arn …{path}{name}"), Some(json!({"name": name, "path": path})))
        } else if let Some(role) = wanted("roleName") {
            let name = note("profile-of-role").context("which profile is the role in?")?;
            (format!("role {role}"), Some(json!({"name": name, "roleName": role})))
        } else {
            ("no IAM role".to_owned(), None)
        };
        Ok(Self {
            name: text("/metadata/name").context("a binding without name")?,
            instance: text("/spec/instanceId").context("a binding without instance")?,
            asked,
            state: note("instance-state").context("no annotation tells the instance's state")?,
            before: note("profile-before"),
            profile,
        })
    }
}

/// The IAM path (`/` where there is none) and the name in a profile's ARN.
fn path_and_name(arn: &str) -> Option<(&str, &str)> {
    let (_, resource) = arn.split_once(":instance-profile")?;
    let slash = resource.rfind('/')?;
    Some(resource.split_at(slash + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_tell_what_they_start_from() {
        let samples = read().unwrap();
        let by_arn = samples.iter().find(|sample| sample.name == "attach-to-stopped-by-arn").unwrap();
        assert_eq!(by_arn.profile, Some(json!({"name": "demo-batch", "path": "/managed/"})));
        assert_eq!((by_arn.state.as_str(), &by_arn.before), ("stopped", &None));
        let by_role = samples.iter().find(|sample| sample.asked == "role demo-reporting-role").unwrap();
        assert_eq!(by_role.profile.as_ref().unwrap()["name"], "demo-reporting-profile");
        assert_eq!(samples.iter().filter(|sample| sample.asked == "no IAM role").count(), 2);
    }
}
