//! The CRDs' CEL rules, which relate fields to each other. CEL itself would be forty crates for a handful of sentences, so each
//! stands here as code under its own text; a rule that is missing here fails the test below.

use super::schema::Patterns;
use super::yaml::{Node, Value};

/// Whether a rule holds of a node. None: it compares with the object as it was, and here there is none; or it is not known.
pub fn holds(rule: &str, node: &Node, patterns: &Patterns) -> Option<bool> {
    let has = |name: &str| node.get(name).is_some();
    if rule.contains("oldSelf") {
        return None;
    }
    if let Some(pattern) = between(rule, "self.matches('", "')") {
        return Some(patterns.matches(pattern, node.text()?));
    }
    if let Some(pattern) = between(rule, "self.all(p, p.matches('", "'))") {
        let Value::List(items) = &node.value else { return None };
        return Some(items.iter().filter_map(Node::text).all(|text| patterns.matches(pattern, text)));
    }
    let holds = match rule {
        "(has(self.name) ? 1 : 0) + (has(self.arn) ? 1 : 0) + (has(self.roleName) ? 1 : 0) + (has(self.none) ? 1 : 0) == 1" => {
            ["name", "arn", "roleName", "none"].into_iter().filter(|name| has(name)).count() == 1
        }
        "!(has(self.instanceProfile.none) && self.adoptionPolicy == 'OnlyIfNone')" => {
            let none = node.get("instanceProfile").is_some_and(|choice| choice.get("none").is_some());
            !(none && node.text_of("adoptionPolicy") == Some("OnlyIfNone"))
        }
        "has(self.names) || has(self.selector)" => has("names") || has("selector"),
        "has(self.regions) || has(self.tags) || has(self.ids)" => has("regions") || has("tags") || has("ids"),
        "self.operator in ['In', 'NotIn'] ? has(self.values) : !has(self.values)" => {
            let asks = node.text_of("operator").is_some_and(|operator| ["In", "NotIn"].contains(&operator));
            asks == has("values")
        }
        _ => return None,
    };
    Some(holds)
}

fn between<'r>(rule: &'r str, before: &str, after: &str) -> Option<&'r str> {
    rule.strip_prefix(before)?.strip_suffix(after)
}

#[cfg(test)]
mod tests {
    use super::super::schema::Schemas;
    use super::super::yaml::documents;
    use super::*;

    #[test]
    fn every_rule_of_the_crds_is_known() {
        let rules = Schemas::default().rules();
        assert!(rules.len() >= 10, "{}", rules.len());
        for rule in rules.into_iter().filter(|rule| !rule.rule.contains("oldSelf")) {
            let fits = ["a", "[a]", "{a: b}"].map(|text| documents(text).remove(0).unwrap());
            let known = fits.iter().any(|node| holds(&rule.rule, node, &Patterns::default()).is_some());
            assert!(known, "write it into src/manifest/rules.rs: {}", rule.rule);
        }
    }

    #[test]
    fn a_requirement_on_a_label_has_values_or_not() {
        let rule = "self.operator in ['In', 'NotIn'] ? has(self.values) : !has(self.values)";
        for (text, expected) in [
            ("{operator: In, values: [a]}", true),
            ("{operator: In}", false),
            ("{operator: Exists, values: [a]}", false),
            ("{operator: Exists}", true),
        ] {
            let node = documents(text).remove(0).unwrap();
            assert_eq!(holds(rule, &node, &Patterns::default()), Some(expected), "{text}");
        }
    }
}
