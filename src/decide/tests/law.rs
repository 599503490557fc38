//! The law of the land in a story: grants as administrators write them, and what the cluster says of the binding's
//! namespace.
//!
//! It is read twice. [`Law::entitle`] reads it as `src/controller/entitle.rs` does, through [`Grant`]. The rest reads the
//! same JSON once more, rule by rule and as naively as can be, so that no mistake of the one hides in the other.

use std::sync::Arc;

use serde_json::{Value, json};

use super::fixtures::*;
use crate::decide::grant::Labels;
use crate::decide::*;
use crate::ids::Region;

#[derive(Debug, Clone)]
pub struct Law {
    specs: Vec<Value>,
    grants: Vec<Arc<Grant>>,
    /// The labels of the binding's namespace, which is `team-a`.
    labels: Labels,
    /// The tag without which no instance is touched.
    pub required: Option<(Arc<str>, Arc<str>)>,
    /// Whether the controller runs on the binding's instance.
    pub own: bool,
}

const NAMESPACE: &str = "team-a";

impl Law {
    /// Grants of these specs, named by their place: `grant-0`, `grant-1`, …
    pub fn of(specs: impl IntoIterator<Item = Value>) -> Self {
        let specs: Vec<Value> = specs.into_iter().collect();
        let grants = specs.iter().enumerate().map(|(n, spec)| grant(&format!("grant-{n}"), spec.clone()));
        let labels = [("team".to_owned(), "a".to_owned())].into();
        Self { grants: grants.collect(), specs, labels, required: None, own: false }
    }

    /// All that the stories ask for which are not about grants.
    pub fn all() -> Self {
        let everything = "arn:aws:iam::123456789012:instance-profile/*";
        Self::of([json!({
            "namespaces": {"selector": {}},
            "instanceProfiles": [everything, APP, OLD, OTHER, "app", "pp"],
            "instances": {"regions": ["eu-west-1"]},
        })])
    }

    pub fn none() -> Self {
        Self::of([])
    }

    pub fn requiring(mut self, key: &str, value: &str) -> Self {
        self.required = Some((key.into(), value.into()));
        self
    }

    pub fn owning(mut self, own: bool) -> Self {
        self.own = own;
        self
    }

    /// The same grants under the same names, met in another order.
    pub fn turned(mut self, turns: usize) -> Self {
        self.grants.reverse();
        let turns = turns.min(self.grants.len());
        self.grants.rotate_left(turns);
        self
    }

    pub fn and(&self, spec: Value) -> Self {
        let Self { labels, required, own, .. } = self.clone();
        Self { labels, required, own, ..Self::of(self.specs.iter().cloned().chain([spec])) }
    }

    pub fn without_grants(&self) -> Self {
        let Self { labels, required, own, .. } = self.clone();
        Self { labels, required, own, ..Self::none() }
    }

    /// Every grant with this profile alone.
    pub fn narrowed_to(&self, profile: &str) -> Self {
        self.but(|spec| spec["instanceProfiles"] = json!([profile]))
    }

    pub fn never_none(&self) -> Self {
        self.but(|spec| spec["allowNone"] = json!(false))
    }

    fn but(&self, change: impl Fn(&mut Value)) -> Self {
        let Self { mut specs, labels, required, own, .. } = self.clone();
        specs.iter_mut().for_each(change);
        Self { labels, required, own, ..Self::of(specs) }
    }

    /// The rights of the story's binding, before AWS is asked anything; the grants' room aside.
    pub fn entitle(&self, story: &Story) -> Result<Rights, Lack> {
        let own_region = Region::parse("eu-west-1").unwrap();
        let Story { desired, history, place, leaving, .. } = story;
        let covering: Vec<_> =
            self.grants.iter().filter(|g| g.covers_namespace(NAMESPACE, Some(&self.labels))).collect();
        if covering.is_empty() {
            return Err(Lack::Namespace);
        }
        let kept = [&history.desired, &history.previous].into_iter().flatten();
        let noted = kept.chain(history.changes.iter().map(|change| &change.to)).filter_map(Carried::profile);
        let swapping = [history.swapped_out(), history.swapped_in()].into_iter().flatten();
        let noted: Vec<&ProfileRef> = noted.filter(|_| leaving.is_some()).chain(swapping).collect();
        let meant = |g: &&Arc<Grant>| {
            g.could_cover(&desired.declared) || noted.iter().any(|profile| g.covers_profile(profile))
        };
        let meant: Vec<_> = covering.into_iter().filter(meant).collect();
        if meant.is_empty() {
            return Err(Lack::Profile);
        }
        let there = |g: &&Arc<Grant>| g.covers_spot(&place.region, &own_region, &desired.instance);
        let grants: Vec<_> = meant.into_iter().filter(there).cloned().collect();
        let rights = Rights { grants, required: self.required.clone(), own: self.own };
        if rights.grants.is_empty() {
            return Err(Lack::Instance);
        }
        rights.agreed(&desired.declared).map(|(_, rights)| rights).map_err(Lack::Credentials)
    }

    // Once more, from the JSON.

    /// Whether one grant by itself allows a write on the instance as it is.
    pub fn allows(&self, story: &Story, write: &Write, instance: &Instance) -> bool {
        let Instance::Present { tags, managed: false, .. } = instance else { return false };
        let special = self.own || tags.keys().any(is_node_tag);
        self.specs.iter().any(|spec| {
            self.attends_by(spec, story, instance)
                && (!special || spec["instances"]["ids"].is_array())
                && match write {
                    Write::Associate { profile }
                    | Write::Replace { profile, .. }
                    | Write::Disassociate { then: Some(profile), .. } => lists(spec, profile.as_str()),
                    Write::Disassociate { from, then: None, .. } => {
                        spec["allowNone"] != json!(false)
                            && (story.leaving.is_none() || lists(spec, from.as_str()))
                    }
                }
        })
    }

    /// Whether some grant covers the instance, whatever the profile.
    pub fn attends(&self, story: &Story, instance: &Instance) -> bool {
        self.specs.iter().any(|spec| self.attends_by(spec, story, instance))
    }

    /// Whether some grant covers both the profile and the instance, nodes of clusters included.
    pub fn covers(&self, story: &Story, profile: &str, instance: &Instance) -> bool {
        self.specs.iter().any(|spec| self.attends_by(spec, story, instance) && lists(spec, profile))
    }

    fn attends_by(&self, spec: &Value, story: &Story, instance: &Instance) -> bool {
        let carries = |key: &str, value: &str| match instance {
            Instance::Present { tags, .. } => tags.has(key, value),
            Instance::Absent | Instance::Impossible => false,
        };
        let named = list(&spec["namespaces"]["names"]).contains(&NAMESPACE);
        let instances = &spec["instances"];
        let region = match &instances["regions"] {
            Value::Null => story.place.region.as_str() == "eu-west-1",
            regions => list(regions).contains(&story.place.region.as_str()),
        };
        let id =
            instances["ids"].is_null() || list(&instances["ids"]).contains(&story.desired.instance.as_str());
        let mut tags = instances["tags"].as_object().into_iter().flatten();
        (named || self.is_selected(&spec["namespaces"]["selector"]))
            && region
            && id
            && tags.all(|(key, value)| carries(key, value.as_str().unwrap()))
            && self.required.as_ref().is_none_or(|(key, value)| carries(key, value))
    }

    fn is_selected(&self, selector: &Value) -> bool {
        let Some(selector) = selector.as_object() else { return false };
        let label = |key: &str| self.labels.get(key).map(String::as_str);
        let mut equal = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
        let mut more = selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
        equal.all(|(key, value)| label(key) == value.as_str())
            && more.all(|one| {
                let (value, values) = (label(one["key"].as_str().unwrap()), list(&one["values"]));
                match (one["operator"].as_str().unwrap(), value) {
                    ("In", Some(value)) => values.contains(&value),
                    ("NotIn", Some(value)) => !values.contains(&value),
                    ("Exists", found) => found.is_some(),
                    ("NotIn", None) | ("DoesNotExist", None) => true,
                    _ => false,
                }
            })
    }
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn is_node_tag(key: &str) -> bool {
    let slashed: Vec<&str> = key.split('/').collect();
    let spaced: Vec<&str> = key.split(':').collect();
    matches!(slashed[..], ["kubernetes.io", "cluster", _, ..] | ["karpenter.sh", _, ..])
        || matches!(spaced[..], ["eks", _, ..] | ["aws", "eks", _, ..])
}

/// Whether a grant lists a profile, which is an ARN or, where IAM may not be read, a bare name.
fn lists(spec: &Value, profile: &str) -> bool {
    let is_arn = profile.contains(':');
    list(&spec["instanceProfiles"]).into_iter().any(|rule| {
        let path: Vec<&str> = rule.split('/').collect();
        match path.split_last() {
            Some((&"*", path)) => {
                is_arn && {
                    let parts: Vec<&str> = profile.split('/').collect();
                    parts.len() > path.len() && parts[..path.len()] == *path
                }
            }
            _ if rule.contains(':') => rule == profile,
            _ => profile.rsplit('/').next() == Some(rule),
        }
    })
}
