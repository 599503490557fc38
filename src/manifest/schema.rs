//! A node held against the CRDs' own schema: what the API server would refuse, told before it is asked.
//!
//! Types, limits, patterns, unknown and missing fields are read from the very schema that `crds` prints, so they cannot say
//! something else. `tests/e2e` compares the verdicts with a real API server's.

use std::cell::RefCell;
use std::collections::HashMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use regex::Regex;

use super::rules;
use super::yaml::{Member, Node, Value, joined, whole};
use crate::api;

/// Something that is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The line.
    pub line: usize,
    /// The field's path.
    pub field: String,
    /// What is wrong, and what to do.
    pub what: String,
}

/// The kinds of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `InstanceRoleBinding`.
    Binding,
    /// `InstanceRoleGrant`.
    Grant,
}

impl Kind {
    /// The kind's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binding => "InstanceRoleBinding",
            Self::Grant => "InstanceRoleGrant",
        }
    }
}

/// The schemas of both CRDs.
#[derive(Debug)]
pub struct Schemas {
    binding: JSONSchemaProps,
    grant: JSONSchemaProps,
    patterns: Patterns,
}

/// Patterns that were read once.
#[derive(Debug, Default)]
pub struct Patterns(RefCell<HashMap<String, Option<Regex>>>);

impl Patterns {
    /// Whether a text has this form; a pattern that cannot be read refuses nothing.
    pub fn matches(&self, pattern: &str, text: &str) -> bool {
        let mut known = self.0.borrow_mut();
        let regex = known.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
        regex.as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

impl Default for Schemas {
    fn default() -> Self {
        let [binding, grant] = api::crds().map(|crd| {
            let version = crd.spec.versions.into_iter().find(|version| version.name == api::VERSION);
            version.and_then(|version| version.schema?.open_api_v3_schema).unwrap_or_default()
        });
        Self { binding, grant, patterns: Patterns::default() }
    }
}

impl Schemas {
    /// All that is wrong with an object's own fields. Its status is the controller's, and nobody applies it.
    pub fn check(&self, kind: Kind, object: &Node) -> Vec<Finding> {
        let schema = match kind {
            Kind::Binding => &self.binding,
            Kind::Grant => &self.grant,
        };
        let mut findings = Findings { patterns: &self.patterns, found: Vec::new() };
        let known = ["apiVersion", "kind", "metadata", "spec", "status"];
        for member in object.members() {
            match (member.name.as_str(), schema.properties.as_ref().and_then(|p| p.get(&member.name))) {
                ("spec", Some(spec)) if member.node.value != Value::Null => {
                    findings.node("spec", &member.node, spec)
                }
                (name, _) if known.contains(&name) => {}
                (name, _) => findings.unknown("", name, member.line, known.into_iter()),
            }
        }
        if object.get("spec").is_none() {
            findings.add(object.line, "spec", "is missing; write it".to_owned());
        }
        findings.found
    }

    /// All rules of both CRDs, for those who have to know each.
    pub fn rules(&self) -> Vec<ValidationRule> {
        let mut rules = Vec::new();
        let mut todo = vec![&self.binding, &self.grant];
        while let Some(schema) = todo.pop() {
            rules.extend(schema.x_kubernetes_validations.iter().flatten().cloned());
            todo.extend(schema.properties.iter().flat_map(|properties| properties.values()));
            if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
                todo.push(items);
            }
            if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
                todo.push(values);
            }
        }
        rules
    }
}

struct Findings<'a> {
    patterns: &'a Patterns,
    found: Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, line: usize, field: &str, what: String) {
        self.found.push(Finding { line, field: field.to_owned(), what });
    }

    fn node(&mut self, path: &str, node: &Node, schema: &JSONSchemaProps) {
        if let Some(expected) = misfit(node, schema) {
            let what = format!("is {}, but must be {expected}; correct it", node.kind());
            return self.add(node.line, path, what);
        }
        let before = self.found.len();
        match &node.value {
            Value::Map(members) => self.map(path, node, members, schema),
            Value::List(items) => self.list(path, node, items, schema),
            Value::Text(text) => self.text(path, node, text, schema),
            Value::Number(number) => self.number(path, node, number.as_f64().unwrap_or_default(), schema),
            Value::Null | Value::Bool(_) => {}
        }
        // What a rule says of a text, or of a list, is said better than by a pattern; of the rest it makes sense only if all is well
        // inside.
        let inside = self.found.get(before).map(|found| found.line);
        let is_plain = matches!(node.value, Value::Text(_) | Value::List(_));
        if is_plain || inside.is_none() {
            let mut broken = self.broken(path, node, schema);
            if !broken.is_empty() {
                broken.iter_mut().for_each(|finding| finding.line = inside.unwrap_or(finding.line));
                self.found.truncate(before);
                self.found.extend(broken);
            }
        }
    }

    fn broken(&self, path: &str, node: &Node, schema: &JSONSchemaProps) -> Vec<Finding> {
        let rules = schema.x_kubernetes_validations.iter().flatten();
        let broken = rules.filter(|rule| rules::holds(&rule.rule, node, self.patterns) == Some(false));
        let finding = |rule: &ValidationRule| {
            let what = rule.message.clone().unwrap_or_else(|| rule.rule.clone());
            let inner = rule.field_path.as_deref().and_then(|path| path.strip_prefix('.'));
            let member = inner.and_then(|name| node.member(name));
            Finding {
                line: member.map_or(node.line, |member| member.line),
                field: inner.map_or_else(|| path.to_owned(), |name| joined(path, name)),
                what,
            }
        };
        broken.map(finding).collect()
    }

    fn map(&mut self, path: &str, node: &Node, members: &[Member], schema: &JSONSchemaProps) {
        let values = match &schema.additional_properties {
            Some(JSONSchemaPropsOrBool::Schema(values)) => Some(values),
            Some(JSONSchemaPropsOrBool::Bool(_)) | None => None,
        };
        let properties = schema.properties.as_ref();
        for member in members {
            let field = joined(path, &member.name);
            let property = properties.and_then(|properties| properties.get(&member.name));
            match property.or(values.map(AsRef::as_ref)) {
                Some(_) if member.node.value == Value::Null => {}
                Some(property) => self.node(&field, &member.node, property),
                None => {
                    let known = properties.into_iter().flat_map(|properties| properties.keys());
                    self.unknown(path, &member.name, member.line, known.map(String::as_str));
                }
            }
        }
        for name in schema.required.iter().flatten().filter(|name| node.get(name).is_none()) {
            let line = node.member(name).map_or(node.line, |member| member.line);
            self.add(line, &joined(path, name), "is missing; write it".to_owned());
        }
        let count = i64::try_from(members.len()).unwrap_or(i64::MAX);
        self.count(path, node, count, "member", schema.min_properties, schema.max_properties);
    }

    fn list(&mut self, path: &str, node: &Node, items: &[Node], schema: &JSONSchemaProps) {
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        self.count(path, node, count, "item", schema.min_items, schema.max_items);
        if let Some(JSONSchemaPropsOrArray::Schema(of)) = &schema.items {
            for (n, item) in items.iter().enumerate() {
                self.node(&format!("{path}[{n}]"), item, of);
            }
        }
    }

    fn text(&mut self, path: &str, node: &Node, text: &str, schema: &JSONSchemaProps) {
        let allowed: Vec<&str> = schema.enum_.iter().flatten().filter_map(|value| value.0.as_str()).collect();
        if !allowed.is_empty() && !allowed.contains(&text) {
            let what = format!("{} is none of {}; write one of them", quoted(text), allowed.join(", "));
            return self.add(node.line, path, what);
        }
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        self.count(path, node, length, "character", schema.min_length, schema.max_length);
        if let Some(pattern) =
            schema.pattern.as_deref().filter(|pattern| !self.patterns.matches(pattern, text))
        {
            let what = format!("{} has not the form {pattern}; correct it", quoted(text));
            self.add(node.line, path, what);
        }
    }

    fn number(&mut self, path: &str, node: &Node, number: f64, schema: &JSONSchemaProps) {
        if schema.minimum.is_some_and(|least| number < least) {
            let least = schema.minimum.unwrap_or_default();
            self.add(node.line, path, format!("{number} is too little; the least is {least}"));
        }
        if schema.maximum.is_some_and(|most| number > most) {
            let most = schema.maximum.unwrap_or_default();
            self.add(node.line, path, format!("{number} is too much; the most is {most}"));
        }
    }

    fn count(
        &mut self,
        path: &str,
        node: &Node,
        count: i64,
        of: &str,
        least: Option<i64>,
        most: Option<i64>,
    ) {
        if let Some(least) = least.filter(|least| count < *least) {
            self.add(node.line, path, format!("has {count} {of}s; it must have at least {least}"));
        }
        if let Some(most) = most.filter(|most| count > *most) {
            self.add(node.line, path, format!("has {count} {of}s; it may have at most {most}"));
        }
    }

    fn unknown<'k>(&mut self, path: &str, name: &str, line: usize, known: impl Iterator<Item = &'k str>) {
        let known: Vec<&str> = known.collect();
        let what = format!("there is no such field; {}", advice(name, &known));
        self.add(line, &joined(path, name), what);
    }
}

/// What to write instead of a name that is not known.
pub fn advice(name: &str, known: &[&str]) -> String {
    let distance = |other: &&&str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    match known.iter().min_by_key(distance).filter(|other| distance(other) <= 1 + name.len() / 4) {
        Some(near) => format!("is {near} meant?"),
        None if known.is_empty() => "leave it out".to_owned(),
        None => format!("those are {}", known.join(", ")),
    }
}

fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(80).collect();
    format!("`{}`", cut.escape_debug())
}

/// What the node would have to be, if it is something else.
fn misfit(node: &Node, schema: &JSONSchemaProps) -> Option<&'static str> {
    match (schema.type_.as_deref()?, &node.value) {
        ("object", Value::Map(_)) | ("array", Value::List(_)) | ("string", Value::Text(_)) => None,
        ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => None,
        ("integer", Value::Number(number)) if whole(number).is_some() => None,
        ("object", _) => Some("an object"),
        ("array", _) => Some("a list"),
        ("string", _) => Some("a text (quote it)"),
        ("boolean", _) => Some("a boolean (true or false)"),
        ("integer" | "number", _) => Some("a whole number"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml::documents;
    use super::*;

    fn told(kind: Kind, text: &str) -> Vec<String> {
        let node = documents(text).remove(0).unwrap();
        let findings = Schemas::default().check(kind, &node);
        findings.iter().map(|f| format!("{} {}: {}", f.line, f.field, f.what)).collect()
    }

    #[test]
    fn each_mistake_is_told_with_its_line_and_field() {
        let text = "apiVersion: instancerole.dev/v1alpha1\nkind: InstanceRoleBinding\nspec:\n  instanceId: i-012\n  \
                    regoin: eu-west-1\n  instanceProfile:\n    name: 12\n  mode: enforce\n  suspend: soon\n";
        assert_eq!(
            told(Kind::Binding, text),
            [
                "4 spec.instanceId: instanceId must be `i-` followed by 8 or 17 lower-case hexadecimal digits, such as i-0123456789abcdef0",
                "5 spec.regoin: there is no such field; is region meant?",
                "7 spec.instanceProfile.name: is a number, but must be a text (quote it); correct it",
                "8 spec.mode: `enforce` is none of Enforce, Observe; write one of them",
                "9 spec.suspend: is a text, but must be a boolean (true or false); correct it",
            ]
        );
    }

    #[test]
    fn a_choice_is_exactly_one() {
        let text =
            |choice: &str| format!("spec:\n  instanceId: i-0123456789abcdef0\n  instanceProfile: {choice}\n");
        for choice in ["{}", "{name: a, roleName: a}", "{none: }"] {
            let told = told(Kind::Binding, &text(choice));
            assert!(
                told[0].starts_with("3 spec.instanceProfile: instanceProfile must have exactly one"),
                "{told:?}"
            );
        }
        for choice in ["{name: a}", "{none: {}}", "{name: a, arn: null}"] {
            assert_eq!(told(Kind::Binding, &text(choice)), [""; 0], "{choice}");
        }
    }

    #[test]
    fn a_rule_that_names_a_field_is_told_there() {
        let text = "spec:\n  instanceId: i-0123456789abcdef0\n  instanceProfile: {none: {}}\n  adoptionPolicy: OnlyIfNone\n";
        let told = told(Kind::Binding, text);
        assert!(
            told[0].starts_with("4 spec.adoptionPolicy: adoptionPolicy OnlyIfNone cannot go"),
            "{told:?}"
        );
    }

    #[test]
    fn what_is_missing_is_told_where_it_should_be() {
        assert_eq!(told(Kind::Binding, "kind: x\n"), ["1 spec: is missing; write it"]);
        assert_eq!(
            told(Kind::Binding, "kind: x\nspec:\n  mode: Observe\n"),
            ["3 spec.instanceId: is missing; write it", "3 spec.instanceProfile: is missing; write it"]
        );
        assert_eq!(told(Kind::Binding, "spec:\n"), ["1 spec: is missing; write it"]);
    }

    #[test]
    fn grants_are_held_against_their_rules_and_limits() {
        let text =
            "spec:\n  namespaces: {}\n  instanceProfiles: ['*']\n  instances: {tags: {}}\n  maxBindings: 0\n";
        let told = told(Kind::Grant, text);
        let begins = [
            "2 spec.namespaces: namespaces must have at least one of",
            "3 spec.instanceProfiles: each of instanceProfiles must be",
            "4 spec.instances.tags: has 0 members",
            "5 spec.maxBindings: 0 is too little",
        ];
        for begin in begins {
            assert!(told.iter().any(|told| told.starts_with(begin)), "{begin}: {told:?}");
        }
    }
}
