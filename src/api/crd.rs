//! The CRDs as they are installed: what the derive makes of the types, with what it cannot say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::{InstanceRoleBinding, InstanceRoleGrant};

/// Both CRDs, as `crds/` holds them.
pub fn crds() -> [CustomResourceDefinition; 2] {
    let mut binding = InstanceRoleBinding::crd();
    amend(&mut binding, |root| {
        if let Some(status) = child(root, &["status"]) {
            // Without it an object that the controller has not seen yet would have no observedGeneration, and
            // kstatus would call it Current. As a default it needs no write.
            status.default = Some(k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSON(
                json!({"observedGeneration": -1}),
            ));
        }
        if let Some(choice) = child(root, &["spec", "instanceProfile"]) {
            // Whoever applies the choice replaces it whole: with granular merging a second field manager could
            // not switch from name to none, even with force.
            choice.x_kubernetes_map_type = Some("atomic".into());
        }
    });
    let mut grant = InstanceRoleGrant::crd();
    amend(&mut grant, |root| {
        if let Some(selector) = child(root, &["spec", "namespaces", "selector"]) {
            selector.x_kubernetes_map_type = Some("atomic".into());
        }
    });
    [binding, grant]
}

fn amend(crd: &mut CustomResourceDefinition, special: impl Fn(&mut JSONSchemaProps)) {
    for version in &mut crd.spec.versions {
        if let Some(root) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            strip_nullable(root);
            special(root);
        }
    }
}

/// `Option` becomes `nullable: true` in the derive. A null is no value of ours: without `nullable` the API
/// server drops it, so that `none:` (null in YAML) is not taken for a choice.
fn strip_nullable(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        strip_nullable(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = schema.items.as_mut() {
        strip_nullable(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = schema.additional_properties.as_mut() {
        strip_nullable(values);
    }
}

fn child<'a>(schema: &'a mut JSONSchemaProps, path: &[&str]) -> Option<&'a mut JSONSchemaProps> {
    path.iter().try_fold(schema, |at, name| at.properties.as_mut()?.get_mut(*name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages;

    fn each(schema: &JSONSchemaProps, path: &str, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
        visit(path, schema);
        for (name, property) in schema.properties.iter().flatten() {
            each(property, &format!("{path}.{name}"), visit);
        }
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
            each(items, &format!("{path}[]"), visit);
        }
    }

    fn kind_of(schema: &JSONSchemaProps) -> String {
        let name = schema.type_.as_deref().unwrap_or("any");
        match (&schema.enum_, &schema.items, &schema.additional_properties) {
            (Some(words), _, _) => {
                let words: Vec<String> =
                    words.iter().map(|word| word.0.as_str().unwrap_or("?").to_owned()).collect();
                words.join(", ")
            }
            (_, Some(JSONSchemaPropsOrArray::Schema(items)), _) => format!("list of {}", kind_of(items)),
            (_, _, Some(JSONSchemaPropsOrBool::Schema(values))) => format!("map to {}", kind_of(values)),
            _ => schema.format.clone().filter(|format| format == "date-time").unwrap_or(name.to_owned()),
        }
    }

    /// What an object of this kind may hold, as the schema has it.
    fn fields(kind: &str) -> String {
        let (mut rows, mut rules) = (Vec::new(), Vec::new());
        let mut required = Vec::new();
        visit_all(|path, schema| {
            let Some(path) = path.strip_prefix(&format!("{kind}.")) else { return };
            let inside = schema.required.iter().flatten().map(|name| format!("{path}.{name}"));
            required.extend(inside);
            for rule in schema.x_kubernetes_validations.iter().flatten() {
                rules.push([format!("`{path}`"), rule.message.clone().unwrap_or_default()]);
            }
            if matches!(path, "apiVersion" | "kind" | "metadata" | "spec" | "status") || path.ends_with("[]")
            {
                return;
            }
            let default = schema.default.as_ref().map(|value| format!("`{}`", value.0));
            let must = required.iter().any(|name| name == path) && path.starts_with("spec");
            let default = default.unwrap_or(if must { "required".to_owned() } else { String::new() });
            let words = schema.description.clone().unwrap_or_default();
            let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
            rows.push([format!("`{path}`"), kind_of(schema), default, words]);
        });
        let (spec, status): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|[path, ..]| path.starts_with("`spec"));
        let head = ["field", "type", "default", "meaning"];
        let mut page = format!("\n## spec\n{}", pages::table(head, spec));
        if !rules.is_empty() {
            let told = pages::table(["field", "what the API server tells"], rules);
            page += &format!("\n## Refused when written\n{told}");
        }
        if !status.is_empty() {
            let status = status.into_iter().map(|[path, kind, _, words]| [path, kind, words]);
            page += &format!("\n## status\n{}", pages::table(["field", "type", "meaning"], status));
        }
        page
    }

    #[test]
    fn the_pages_of_the_resources_tell_each_field() {
        pages::keep("docs/reference/binding.md", "fields", &fields("InstanceRoleBinding"));
        pages::keep("docs/reference/grant.md", "fields", &fields("InstanceRoleGrant"));
    }

    fn visit_all(mut visit: impl FnMut(&str, &JSONSchemaProps)) {
        for crd in crds() {
            let kind = crd.spec.names.kind;
            for version in &crd.spec.versions {
                each(
                    version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap(),
                    &kind,
                    &mut visit,
                );
            }
        }
    }

    #[test]
    fn every_field_is_described_for_kubectl_explain() {
        visit_all(|path, schema| {
            if !path.ends_with("[]") {
                assert!(
                    schema.description.as_deref().is_some_and(|d| d.len() > 3),
                    "{path} has no description"
                );
            }
        });
    }

    #[test]
    fn no_field_is_nullable_and_every_text_and_list_of_the_spec_is_bounded() {
        visit_all(|path, schema| {
            assert_eq!(schema.nullable, None, "{path}");
            let bounded = schema.max_length.is_some() || schema.enum_.is_some() || schema.format.is_some();
            if path.contains(".spec") && schema.type_.as_deref() == Some("string") {
                assert!(bounded, "{path} has no maxLength");
            }
            if path.contains(".spec") && schema.type_.as_deref() == Some("array") {
                assert!(schema.min_items == Some(1) && schema.max_items.is_some(), "{path} is not bounded");
            }
        });
    }
}
