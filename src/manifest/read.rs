//! Documents → objects: bindings, grants and the labels of namespaces, each with where it stands; and all that is wrong.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::schema::{Finding, Kind, Schemas, advice};
use super::sources::Text;
use super::yaml::{self, Node, Value, joined};
use crate::api::{GROUP, InstanceRoleBinding, InstanceRoleGrant, VERSION};

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Something that keeps an object from being applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub source: Source,
    /// The field's path; empty if it is the text itself.
    pub field: String,
    /// What is wrong, and what to do.
    pub what: String,
    /// Which object it is about, as far as it says so.
    pub object: Named,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, field, what, .. } = self;
        match field.as_str() {
            "" => write!(f, "{source}: {what}"),
            field => write!(f, "{source}: {field}: {what}"),
        }
    }
}

/// What an object says of itself, be it right or wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// Its kind.
    pub kind: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// The Region it declares.
    pub region: Option<String>,
    /// The instance it declares.
    pub instance: Option<String>,
}

/// All that manifests say.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The bindings, in the order in which they were read.
    pub bindings: Vec<(InstanceRoleBinding, Source)>,
    /// The grants.
    pub grants: Vec<(InstanceRoleGrant, Source)>,
    /// The labels of namespaces, by name.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is none of ours, and what it is.
    pub skipped: Vec<(Source, String)>,
}

/// The metadata that is read. A status is believed only of an object that a cluster has given its UID: in a file that
/// is applied it means nothing.
const READ: [&str; 9] = [
    "name",
    "namespace",
    "uid",
    "labels",
    "annotations",
    "finalizers",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
];

/// What else `metadata` may hold.
const METADATA: [&str; 15] = [
    "name",
    "namespace",
    "uid",
    "labels",
    "annotations",
    "finalizers",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "generateName",
    "selfLink",
    "resourceVersion",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "managedFields",
];

impl Manifests {
    /// Reads texts. An object without a namespace belongs to `namespace`.
    pub fn read(texts: &[Text], namespace: &str) -> Self {
        let mut reader = Reader {
            schemas: Schemas::default(),
            namespace: namespace.to_owned(),
            seen: HashMap::new(),
            read: Self::default(),
        };
        for text in texts {
            reader.text(text);
        }
        reader.read
    }
}

struct Reader {
    schemas: Schemas,
    namespace: String,
    seen: HashMap<(Kind, String, String), Source>,
    read: Manifests,
}

/// An object that is being read.
struct Object<'a> {
    file: &'a Arc<str>,
    node: &'a Node,
    named: Named,
}

impl Object<'_> {
    fn problem(&self, Finding { line, field, what }: Finding) -> Problem {
        let source = Source { file: Arc::clone(self.file), line };
        Problem { source, field, what, object: self.named.clone() }
    }

    fn at(&self, line: usize, field: &str, what: impl Into<String>) -> Problem {
        self.problem(Finding { line, field: field.to_owned(), what: what.into() })
    }

    fn source(&self) -> Source {
        Source { file: Arc::clone(self.file), line: self.node.line }
    }
}

impl Reader {
    fn text(&mut self, text: &Text) {
        let file: Arc<str> = text.name.as_str().into();
        let whole = match std::str::from_utf8(&text.bytes) {
            Ok(whole) => whole,
            Err(error) => {
                let before = text.bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                let what = "this is no UTF-8; save the file as UTF-8".to_owned();
                let source = Source { file, line };
                let problem = Problem { source, field: String::new(), what, object: Named::default() };
                return self.read.problems.push(problem);
            }
        };
        for document in yaml::documents(whole) {
            match document {
                Ok(node) => self.node(&file, &node),
                Err(yaml::Fault { line, field, what }) => {
                    let source = Source { file: Arc::clone(&file), line };
                    self.read.problems.push(Problem { source, field, what, object: Named::default() });
                }
            }
        }
    }

    fn node(&mut self, file: &Arc<str>, node: &Node) {
        let object = Object { file, node, named: named(node) };
        if !matches!(node.value, Value::Map(_)) {
            let what = format!("is {}, but a manifest is an object; correct it", node.kind());
            return self.read.problems.push(object.at(node.line, "", what));
        }
        let (version, kind) = (node.get("apiVersion"), node.get("kind"));
        let (Some(kind), version) = (kind.and_then(Node::text), version.and_then(Node::text)) else {
            return self.without_kind(&object);
        };
        let group = version.map(|version| version.rsplit_once('/').map_or("", |(group, _)| group));
        let ours = [Kind::Binding, Kind::Grant].into_iter().find(|ours| ours.as_str() == kind);
        let items = node.get("items").filter(|_| kind.ends_with("List"));
        match (ours, group) {
            (None, Some("")) if kind == "Namespace" => self.namespace(&object),
            (None, Some("" | GROUP)) if items.is_some() => {
                if let Some(Node { value: Value::List(items), .. }) = items {
                    items.iter().for_each(|item| self.node(file, item));
                }
            }
            (Some(ours), _) if version == Some(&format!("{GROUP}/{VERSION}")) => self.ours(ours, &object),
            (Some(_), _) => {
                let line = node.member("apiVersion").map_or(node.line, |member| member.line);
                let is = version
                    .map_or("is missing".to_owned(), |version| format!("is `{}`", version.escape_debug()));
                let what = format!("{is}; for a {kind} write {GROUP}/{VERSION}");
                self.read.problems.push(object.at(line, "apiVersion", what));
            }
            (None, Some(GROUP)) => {
                let line = node.member("kind").map_or(node.line, |member| member.line);
                let known = [Kind::Binding.as_str(), Kind::Grant.as_str()];
                let what = format!("{GROUP} has no `{}`; {}", kind.escape_debug(), advice(kind, &known));
                self.read.problems.push(object.at(line, "kind", what));
            }
            (None, _) => self.read.skipped.push((object.source(), kind.to_owned())),
        }
    }

    /// A file of settings is no manifest; something with metadata or a spec was meant to be one.
    fn without_kind(&mut self, object: &Object<'_>) {
        let node = object.node;
        let meant = ["apiVersion", "kind", "metadata", "spec"].iter().any(|name| node.member(name).is_some());
        if !meant {
            return self.read.skipped.push((object.source(), "something without a kind".to_owned()));
        }
        let (line, what) = match node.member("kind") {
            Some(member) if member.node.value != Value::Null => {
                (member.line, format!("is {}, but must be a text; correct it", member.node.kind()))
            }
            Some(_) | None => (node.line, "is missing; write it".to_owned()),
        };
        self.read.problems.push(object.at(line, "kind", what));
    }

    fn namespace(&mut self, object: &Object<'_>) {
        let Some(name) = object.named.name.clone() else { return };
        let labels = object.node.get("metadata").and_then(|metadata| metadata.get("labels"));
        let labels = labels.map(Node::members).unwrap_or_default();
        let labels =
            labels.iter().filter_map(|label| Some((label.name.clone(), label.node.text()?.to_owned())));
        self.read.namespaces.insert(name, labels.collect());
    }

    fn ours(&mut self, kind: Kind, object: &Object<'_>) {
        let mut problems: Vec<Problem> =
            metadata(object.node, kind).into_iter().map(|finding| object.problem(finding)).collect();
        let findings = self.schemas.check(kind, object.node);
        problems.extend(findings.into_iter().map(|finding| object.problem(finding)));
        problems.extend(self.twice(kind, object));
        if problems.is_empty()
            && let Err(problem) = self.keep(kind, object)
        {
            problems.push(*problem);
        }
        problems.sort_by_key(|problem| problem.source.line);
        self.read.problems.append(&mut problems);
    }

    /// An object that was given before.
    fn twice(&mut self, kind: Kind, object: &Object<'_>) -> Option<Problem> {
        let name = object.named.name.clone()?;
        let namespace = match kind {
            Kind::Binding => self.namespace_of(object),
            Kind::Grant => String::new(),
        };
        let first = match self.seen.entry((kind, namespace, name)) {
            std::collections::hash_map::Entry::Occupied(first) => first.get().clone(),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(object.source());
                return None;
            }
        };
        let metadata = object.node.get("metadata");
        let line = metadata.and_then(|metadata| metadata.member("name")).map_or(object.node.line, |m| m.line);
        let what = format!("{} has this name already ({first}); keep one of them", kind.as_str());
        Some(object.at(line, "metadata.name", what))
    }

    fn namespace_of(&self, object: &Object<'_>) -> String {
        object.named.namespace.clone().unwrap_or_else(|| self.namespace.clone())
    }

    fn keep(&mut self, kind: Kind, object: &Object<'_>) -> Result<(), Box<Problem>> {
        let unreadable = |error: serde_json::Error| {
            Box::new(object.at(object.node.line, "", format!("cannot be read: {error}; correct it")))
        };
        let json = essence(object.node, kind, &self.namespace);
        match kind {
            Kind::Binding => {
                let binding = serde_json::from_value(json).map_err(unreadable)?;
                self.read.bindings.push((binding, object.source()));
            }
            Kind::Grant => {
                let grant = serde_json::from_value(json).map_err(unreadable)?;
                self.read.grants.push((grant, object.source()));
            }
        }
        Ok(())
    }
}

/// What of an object is read: its spec, what matters of its metadata, and its status if a cluster knows it.
fn essence(node: &Node, kind: Kind, namespace: &str) -> Json {
    let mut json = node.to_json();
    let Some(object) = json.as_object_mut() else { return json };
    let mut is_known = false;
    if let Some(metadata) = object.get_mut("metadata").and_then(Json::as_object_mut) {
        metadata.retain(|name, _| READ.contains(&name.as_str()));
        is_known = metadata.contains_key("uid");
        if kind == Kind::Binding {
            metadata.entry("namespace").or_insert_with(|| namespace.into());
        }
    }
    if !is_known {
        object.remove("status");
    }
    json
}

fn named(node: &Node) -> Named {
    let text = |at: Option<&Node>, name: &str| at.and_then(|at| at.text_of(name)).map(str::to_owned);
    let (metadata, spec) = (node.get("metadata"), node.get("spec"));
    Named {
        kind: text(Some(node), "kind"),
        namespace: text(metadata, "namespace"),
        name: text(metadata, "name"),
        region: text(spec, "region"),
        instance: text(spec, "instanceId"),
    }
}

/// What is wrong with `metadata`: what Kubernetes asks of every object's names, labels and annotations.
fn metadata(object: &Node, kind: Kind) -> Vec<Finding> {
    let finding = |line: usize, field: &str, what: String| Finding { line, field: field.to_owned(), what };
    let Some(metadata) = object.get("metadata") else {
        return vec![finding(object.line, "metadata.name", "is missing; write it".to_owned())];
    };
    if !matches!(metadata.value, Value::Map(_)) {
        let what = format!("is {}, but must be an object; correct it", metadata.kind());
        return vec![finding(metadata.line, "metadata", what)];
    }
    let mut found = Vec::new();
    for member in metadata.members() {
        let is_null = member.node.value == Value::Null;
        let field = joined("metadata", &member.name);
        let text = match member.name.as_str() {
            known if is_null && METADATA.contains(&known) => continue,
            "name" | "namespace" | "uid" | "creationTimestamp" | "deletionTimestamp" => member.node.text(),
            "labels" | "annotations" => {
                found.extend(texts(&field, &member.node, member.name == "labels"));
                continue;
            }
            name if METADATA.contains(&name) => continue,
            name => {
                let what = format!("there is no such field; {}", advice(name, &METADATA));
                found.push(finding(member.line, &field, what));
                continue;
            }
        };
        let Some(text) = text else {
            let what = format!("is {}, but must be a text (quote it); correct it", member.node.kind());
            found.push(finding(member.node.line, &field, what));
            continue;
        };
        let wrong = match member.name.as_str() {
            "name" if !is_subdomain(text) => Some(
                "is no name for an object: lower-case letters, digits, `-` and `.`, at most 253, beginning and ending with a letter or digit",
            ),
            "namespace" if kind == Kind::Binding && !is_label(text) => Some(
                "is no name of a namespace: lower-case letters, digits and `-`, at most 63, beginning and ending with a letter or digit",
            ),
            "creationTimestamp" | "deletionTimestamp" if text.parse::<Timestamp>().is_err() => {
                Some("is no time; leave it out")
            }
            _ => None,
        };
        let told =
            |what: &str| format!("`{}` {what}", text.chars().take(80).collect::<String>().escape_debug());
        found.extend(wrong.map(|what| finding(member.node.line, &field, told(what))));
    }
    if metadata.get("name").is_none() {
        found.push(finding(metadata.line, "metadata.name", "is missing; write it".to_owned()));
    }
    found
}

/// What is wrong with labels or annotations.
fn texts(field: &str, node: &Node, labels: bool) -> Vec<Finding> {
    if !matches!(node.value, Value::Map(_)) {
        let what = format!("is {}, but must be an object; correct it", node.kind());
        return vec![Finding { line: node.line, field: field.to_owned(), what }];
    }
    let wrong = |name: &str, value: &Value| match value {
        Value::Null => None,
        Value::Text(text) if labels && !is_label_value(text) => Some(
            "is no value of a label: at most 63 of letters, digits and `-_.`, beginning and ending with a letter or digit",
        ),
        Value::Text(_) if !is_qualified(name) => Some(
            "is no name of a label or annotation: at most 63 of letters, digits and `-_.`, after `domain/` if there is one",
        ),
        Value::Text(_) => None,
        _ => Some("must be a text; quote it"),
    };
    let found = node.members().iter().filter_map(|member| {
        let what = wrong(&member.name, &member.node.value)?.to_owned();
        Some(Finding { line: member.node.line, field: joined(field, &member.name), what })
    });
    found.collect()
}

/// RFC 1123: what Kubernetes takes for the name of an object.
fn is_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        let ends = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        ends(part.bytes().next())
            && ends(part.bytes().last())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_subdomain(text)
}

fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_name(text)
}

fn is_label_name(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.bytes().next())
        && ends(text.bytes().last())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn is_qualified(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_subdomain(domain) && is_label_name(name),
        None => is_label_name(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Manifests {
        Manifests::read(&[Text { name: "a.yaml".into(), bytes: text.into() }], "default")
    }

    fn told(manifests: &Manifests) -> Vec<String> {
        manifests.problems.iter().map(ToString::to_string).collect()
    }

    const WEB: &str = "apiVersion: instancerole.dev/v1alpha1\nkind: InstanceRoleBinding\nmetadata: {name: web, namespace: a}\n\
                       spec:\n  instanceId: i-0123456789abcdef0\n  instanceProfile: {name: web}\n";

    #[test]
    fn objects_are_found_in_documents_and_lists_with_where_they_stand() {
        let item = WEB.replace("name: web,", "name: two,").replace('\n', "\n  ");
        let text = format!(
            "{WEB}---\napiVersion: v1\nkind: List\nitems:\n- {item}\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  \
             name: a\n  labels: {{team: a}}\n---\napiVersion: apps/v1\nkind: Deployment\n---\nreplicas: 3\n"
        );
        let manifests = read(&text);
        assert_eq!(told(&manifests), [""; 0]);
        let found: Vec<String> = manifests
            .bindings
            .iter()
            .map(|(binding, source)| {
                format!("{} {source}", binding.metadata.name.as_deref().unwrap_or_default())
            })
            .collect();
        assert_eq!(found, ["web a.yaml:1", "two a.yaml:11"]);
        assert_eq!(manifests.namespaces["a"]["team"], "a");
        let skipped: Vec<&str> = manifests.skipped.iter().map(|(_, kind)| kind.as_str()).collect();
        assert_eq!(skipped, ["Deployment", "something without a kind"]);
    }

    #[test]
    fn each_problem_names_file_line_and_field() {
        for (story, text, expected) in [
            (
                "another version",
                WEB.replace("v1alpha1", "v1"),
                "a.yaml:1: apiVersion: is `instancerole.dev/v1`; for a InstanceRoleBinding write instancerole.dev/v1alpha1",
            ),
            (
                "no version",
                WEB.replace("apiVersion: instancerole.dev/v1alpha1\n", ""),
                "a.yaml:1: apiVersion: is missing; for a InstanceRoleBinding write",
            ),
            (
                "another kind",
                WEB.replace("InstanceRoleBinding", "InstanceRoleBindin"),
                "a.yaml:2: kind: instancerole.dev has no `InstanceRoleBindin`; is InstanceRoleBinding meant?",
            ),
            ("no kind", WEB.replace("kind: InstanceRoleBinding\n", ""), "a.yaml:1: kind: is missing"),
            ("no name", WEB.replace("name: web, ", ""), "a.yaml:3: metadata.name: is missing"),
            (
                "a name with capitals",
                WEB.replace("name: web,", "name: Web,"),
                "a.yaml:3: metadata.name: `Web` is no name for an object",
            ),
            (
                "a field of metadata",
                WEB.replace("namespace: a", "namespcae: a"),
                "a.yaml:3: metadata.namespcae: there is no such field; is namespace meant?",
            ),
            (
                "a label that is a boolean",
                WEB.replace("namespace: a", "labels: {x: yes}"),
                "a.yaml:3: metadata.labels.x: must be a text; quote it",
            ),
            (
                "twice",
                format!("{WEB}---\n{WEB}"),
                "a.yaml:10: metadata.name: InstanceRoleBinding has this name already (a.yaml:1); keep one of them",
            ),
            (
                "name and arn",
                WEB.replace("{name: web}", "{name: web, roleName: web}"),
                "a.yaml:6: spec.instanceProfile: instanceProfile must have exactly one",
            ),
            (
                "no YAML",
                WEB.replace("{name: web}", "{name: web"),
                "a.yaml:6: this is no YAML: unclosed bracket",
            ),
            ("a text", "just a text".into(), "a.yaml:1: is a text, but a manifest is an object"),
        ] {
            let manifests = read(&text);
            let told = told(&manifests);
            assert!(told.iter().any(|told| told.starts_with(expected)), "{story}: {told:?}");
        }
    }

    #[test]
    fn a_status_is_believed_only_of_an_object_that_a_cluster_knows() {
        let status = "status: {adopted: true}\n";
        let adopted = |text: &str| {
            let manifests = read(text);
            assert_eq!(told(&manifests), [""; 0]);
            manifests.bindings[0].0.status.as_ref().and_then(|status| status.adopted)
        };
        assert_eq!(adopted(&format!("{WEB}{status}")), None);
        assert_eq!(
            adopted(&format!("{WEB}{status}").replace("{name: web, n", "{name: web, uid: u, n")),
            Some(true)
        );
    }

    #[test]
    fn what_is_no_text_at_all_is_told_with_its_line() {
        let bytes = [WEB.as_bytes(), b"# \xff\n"].concat();
        let manifests = Manifests::read(&[Text { name: "a.yaml".into(), bytes }], "default");
        assert_eq!(told(&manifests), ["a.yaml:7: this is no UTF-8; save the file as UTF-8"]);
    }

    proptest! {
        #[test]
        fn whatever_stands_in_a_field_nothing_panics_and_every_problem_has_a_line(
            at in 0..WEB.len(),
            cut in 0..12_usize,
            put in "\\PC{0,12}|[:{}\\[\\],&*!|>'\"# \\n-]{0,6}",
        ) {
            let end = (at + cut).min(WEB.len());
            let text = format!("{}{put}{}", &WEB[..at], &WEB[end..]);
            let lines = text.lines().count() + 1;
            let manifests = read(&text);
            for problem in &manifests.problems {
                prop_assert!((1..=lines).contains(&problem.source.line), "{problem}");
                prop_assert!(!problem.what.is_empty());
            }
            // Nothing is lost without a word.
            let found = manifests.bindings.len() + manifests.problems.len() + manifests.skipped.len();
            prop_assert!(found > 0 || !manifests.namespaces.is_empty() || yaml::documents(&text).is_empty());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Manifests::read(&[Text { name: "a".into(), bytes }], "default");
        }
    }
}
