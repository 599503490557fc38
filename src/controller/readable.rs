//! Objects as the API server has them, without what others wrote into them that cannot be read.
//!
//! The API server takes dates in `managedFields` and in conditions that are none to us, and whoever may patch an object may
//! write them. A list is read as a whole: one such object would end the watch of all.

use std::borrow::Cow;

use kube::Resource;
use kube::api::ObjectMeta;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// An object, without `managedFields` and without its status where those cannot be read.
#[derive(Debug, Clone)]
pub struct Readable<K>(pub K);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Readable<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(from)?;
        if let Ok(whole) = K::deserialize(&object) {
            return Ok(Self(whole));
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        if let Ok(whole) = K::deserialize(&object) {
            return Ok(Self(whole));
        }
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        K::deserialize(object).map(Self).map_err(D::Error::custom)
    }
}

impl<K: Resource> Resource for Readable<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::grants::NamespaceMeta;
    use super::*;
    use crate::api::InstanceRoleGrant;

    #[test]
    fn a_date_that_is_none_to_us_does_not_hide_an_object() {
        let fields = json!([{"manager": "x", "operation": "Update", "time": "9999-12-31T23:59:59Z"}]);
        let metadata = json!({"name": "a", "labels": {"team": "a"}, "managedFields": fields});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata,
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let read: Readable<NamespaceMeta> = serde_json::from_value(namespace).unwrap();
        assert_eq!(read.meta().labels.as_ref().unwrap()["team"], "a");
        let spec = json!({"namespaces": {"names": ["a"]}, "instanceProfiles": ["app"],
            "instances": {"regions": ["eu-west-1"]}});
        let grant = json!({"apiVersion": "instancerole.dev/v1alpha1", "kind": "InstanceRoleGrant",
            "metadata": metadata, "spec": spec});
        let read: Readable<InstanceRoleGrant> = serde_json::from_value(grant).unwrap();
        assert_eq!(read.0.spec.instance_profiles, ["app"]);
        assert!(
            serde_json::from_value::<Readable<InstanceRoleGrant>>(json!({"metadata": metadata})).is_err()
        );
    }
}
