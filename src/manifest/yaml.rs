//! Text → nodes that know their lines. YAML as kubectl reads it, of which JSON is a part.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, StrInput, Tag, options};
use serde_json::{Map, Number};

/// A value, and the line it begins in, from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The line.
    pub line: usize,
    /// The value.
    pub value: Value,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: `null`, `~`, or left empty.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Members, in their order.
    Map(Vec<Member>),
}

/// One member of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// The line of the name.
    pub line: usize,
    /// What it holds.
    pub node: Node,
}

/// What keeps a document from being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line.
    pub line: usize,
    /// The member that is concerned, as a path; empty if it is the text itself.
    pub field: String,
    /// In words.
    pub what: String,
}

/// How many nodes aliases may add to a document: a few lines of YAML can name more than there is memory for.
const MOST_BY_ALIAS: usize = 100_000;

impl Node {
    /// The member of this name. `null` is as good as left out.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.member(name).map(|member| &member.node).filter(|node| node.value != Value::Null)
    }

    /// The member of this name, with its line, whatever it holds.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members().iter().find(|member| member.name == name)
    }

    /// The members, if it is a map.
    pub fn members(&self) -> &[Member] {
        match &self.value {
            Value::Map(members) => members,
            _ => &[],
        }
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a member.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Self::text)
    }

    /// The same as JSON, without what is `null`: the API server drops that as well.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => whole(number).map_or_else(|| number.clone().into(), Into::into),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(members) => {
                let held = members.iter().filter(|member| member.node.value != Value::Null);
                let json = held.map(|member| (member.name.clone(), member.node.to_json()));
                serde_json::Value::Object(json.collect::<Map<_, _>>())
            }
        }
    }

    /// What kind of value it is, in words.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "an object",
        }
    }

    fn size(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Value::Map(members) => 1 + members.iter().map(|member| member.node.size()).sum::<usize>(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => 1,
        }
    }
}

/// The documents of a text; one that cannot be read does not keep the later ones from being read.
pub fn documents(text: &str) -> Vec<Result<Node, Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // In JSON a tab is a space; YAML takes it for no indentation, and inside of JSON's texts there is none.
    let is_json = text.trim_start().starts_with(['{', '[']);
    let text = if is_json { Cow::Owned(text.replace('\t', " ")) } else { Cow::Borrowed(text) };
    let mut parser = Parser::new_from_str_with_options(&text, settings());
    let mut documents = Vec::new();
    loop {
        match document(&mut parser) {
            Ok(None) => return documents,
            Ok(Some(Node { value: Value::Null, .. })) => {}
            Ok(Some(node)) => documents.push(Ok(node)),
            Err(fault) => {
                documents.push(Err(fault));
                // What cannot be made out at all ends the reading.
                if !parser.proceed_next_document().unwrap_or(false) {
                    return documents;
                }
            }
        }
    }
}

fn settings() -> Options {
    options! { emit_comments: false }
}

/// A collection that is being read.
enum Open {
    List { node: Node, anchor: usize },
    Map { node: Node, anchor: usize, name: Option<(String, usize)> },
}

/// A document that is being read.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    by_alias: usize,
    done: Option<Node>,
}

fn document<'t>(parser: &mut Parser<'t, StrInput<'t>>) -> Result<Option<Node>, Fault> {
    let mut builder = Builder::default();
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| unreadable(&error))?;
        let line = span.start.line();
        match event {
            Event::DocumentEnd => return Ok(builder.done.or(Some(Node { line, value: Value::Null }))),
            Event::StreamEnd => return Ok(None),
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref());
                builder.add(Node { line, value }, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                let node = Node { line, value: Value::List(Vec::new()) };
                builder.open.push(Open::List { node, anchor });
            }
            Event::MappingStart(_, anchor, _) => {
                let node = Node { line, value: Value::Map(Vec::new()) };
                builder.open.push(Open::Map { node, anchor, name: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                match builder.open.pop() {
                    Some(Open::List { node, anchor }) => builder.add(node, anchor)?,
                    Some(Open::Map { node, anchor, .. }) => builder.add(merged(node), anchor)?,
                    None => {}
                };
            }
            Event::Alias(id) => {
                let Some(node) = builder.anchors.get(&id).cloned() else {
                    return Err(fault(line, "an alias stands inside of what it names; write it out"));
                };
                builder.by_alias += node.size();
                if builder.by_alias > MOST_BY_ALIAS {
                    return Err(fault(line, "aliases make this document too large; write it out"));
                }
                builder.add(Node { line, ..node }, 0)?;
            }
            _ => {}
        }
    }
    Ok(None)
}

impl Builder {
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.done = Some(node),
            Some(Open::List { node: Node { value: Value::List(items), .. }, .. }) => items.push(node),
            Some(Open::Map { node: Node { value: Value::Map(members), .. }, name, .. }) => {
                match name.take() {
                    None => *name = Some((as_name(&node)?, node.line)),
                    Some((given, line)) => {
                        if given != MERGE
                            && let Some(first) = members.iter().find(|member| member.name == given)
                        {
                            let what =
                                format!("is given twice, first in line {}; keep one of them", first.line);
                            return Err(Fault { line, field: self.path(&given), what });
                        }
                        members.push(Member { name: given, line, node });
                    }
                }
            }
            // A list holds a list and a map members: nothing else was opened.
            Some(Open::List { .. } | Open::Map { .. }) => {}
        }
        Ok(())
    }

    /// The path of a member of what is being read.
    fn path(&self, last: &str) -> String {
        let mut path = String::new();
        for open in &self.open {
            match open {
                Open::Map { name: Some((name, _)), .. } => path = joined(&path, name),
                Open::List { node: Node { value: Value::List(items), .. }, .. } => {
                    path.push_str(&format!("[{}]", items.len()));
                }
                Open::Map { .. } | Open::List { .. } => {}
            }
        }
        joined(&path, last)
    }
}

/// A member of a path.
pub fn joined(path: &str, name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') && !name.is_empty();
    match (path.is_empty(), plain) {
        (_, false) => format!("{path}[{}]", name.escape_debug()),
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
    }
}

/// The name under which a map takes in the members of others.
const MERGE: &str = "<<";

/// The map with the members of those that it merges; its own go before.
fn merged(node: Node) -> Node {
    let Value::Map(members) = node.value else { return node };
    if members.iter().all(|member| member.name != MERGE) {
        return Node { line: node.line, value: Value::Map(members) };
    }
    let (merges, mut own): (Vec<Member>, Vec<Member>) =
        members.into_iter().partition(|member| member.name == MERGE);
    for merge in merges {
        let maps = match merge.node.value {
            Value::List(items) => items,
            _ => vec![merge.node],
        };
        for member in maps.into_iter().flat_map(|map| match map.value {
            Value::Map(members) => members,
            _ => Vec::new(),
        }) {
            if own.iter().all(|other| other.name != member.name) {
                own.push(member);
            }
        }
    }
    Node { line: node.line, value: Value::Map(own) }
}

fn as_name(node: &Node) -> Result<String, Fault> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => {
            Err(fault(node.line, &format!("{} stands where a field's name should; quote it", node.kind())))
        }
    }
}

/// The whole number that is written as one, be it with a point.
pub fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15)?;
        format!("{float:.0}").parse().ok()
    })
}

fn fault(line: usize, what: &str) -> Fault {
    Fault { line, field: String::new(), what: what.to_owned() }
}

fn unreadable(error: &ScanError) -> Fault {
    fault(error.marker().line().max(1), &format!("this is no YAML: {}; correct it", error.info()))
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let tag = tag.and_then(Tag::core_suffix);
    match (style, tag) {
        (_, Some("str")) => Value::Text(text.to_owned()),
        (ScalarStyle::Plain, _) => plain(text),
        _ => Value::Text(text.to_owned()),
    }
}

/// A text without quotes, as kubectl understands it: by YAML 1.1, where `yes` and `on` are booleans.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        _ => number(text).map_or_else(|| Value::Text(text.to_owned()), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_negative = text.starts_with('-');
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let whole = digits.replace('_', "");
    let based = |prefix: &str, radix| {
        whole.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok())
    };
    let octal = || whole.strip_prefix('0').filter(|rest| !rest.is_empty());
    let integer = based("0x", 16)
        .or_else(|| based("0b", 2))
        .or_else(|| based("0o", 8))
        .or_else(|| octal().and_then(|rest| i64::from_str_radix(rest, 8).ok()))
        .or_else(|| whole.bytes().all(|b| b.is_ascii_digit()).then(|| whole.parse().ok()).flatten());
    if let Some(integer) = integer {
        return Some(Number::from(if is_negative { -integer } else { integer }));
    }
    let shaped = whole.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let float = shaped.then(|| whole.parse::<f64>().ok()).flatten()?;
    Number::from_f64(if is_negative { -float } else { float })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn one(text: &str) -> Node {
        documents(text).into_iter().next().unwrap().unwrap()
    }

    #[test]
    fn scalars_are_read_as_kubectl_reads_them() {
        for (text, value) in [
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("\"yes\"", json!("yes")),
            ("!!str yes", json!("yes")),
            ("12", json!(12)),
            ("-0x1F", json!(-31)),
            ("0755", json!(493)),
            ("1_000", json!(1000)),
            ("1.5e3", json!(1500)),
            ("1.5", json!(1.5)),
            ("1.2.3", json!("1.2.3")),
            ("i-0123456789abcdef0", json!("i-0123456789abcdef0")),
            ("eu-west-1", json!("eu-west-1")),
            ("12e", json!("12e")),
        ] {
            assert_eq!(one(&format!("a: {text}")).to_json(), json!({"a": value}), "{text}");
        }
        assert_eq!(one("a: ~\nb: 1").to_json(), json!({"b": 1}), "null is as good as left out");
    }

    #[test]
    fn every_node_knows_its_line() {
        let node = one("\n# a comment\na:\n  b: [1,\n    2]\n");
        let b = node.get("a").unwrap().member("b").unwrap();
        assert_eq!((node.line, b.line, b.node.line), (3, 4, 4));
        let Value::List(items) = &b.node.value else { panic!() };
        assert_eq!(items.iter().map(|item| item.line).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn a_document_that_cannot_be_read_does_not_hide_the_others() {
        let found = documents("a: 1\n---\nb: [1\n---\nc: 3\n---\nd: 1\nd: 2\n---\n# nothing\n---\ne: 5\n");
        let told: Vec<String> = found
            .iter()
            .map(|found| match found {
                Ok(node) => node.to_json().to_string(),
                Err(Fault { line, field, .. }) => format!("line {line} {field}"),
            })
            .collect();
        assert_eq!(told, ["{\"a\":1}", "line 3 ", "{\"c\":3}", "line 8 d", "{\"e\":5}"]);
    }

    #[test]
    fn a_field_given_twice_is_named_with_its_path() {
        let fault = documents("a:\n  - b: {c: 1, c: 2}\n").remove(0).unwrap_err();
        assert_eq!((fault.line, fault.field.as_str()), (2, "a[0].b.c"));
        assert!(fault.what.contains("first in line 2"), "{}", fault.what);
    }

    #[test]
    fn json_is_read_with_its_tabs_and_escapes() {
        let node = one("{\n\t\"a\": \"\\u00e4\\/\\ud83d\\ude00\",\n\t\"b\": [true, null, 1.0]\n}\n");
        assert_eq!(node.to_json(), json!({"a": "ä/😀", "b": [true, null, 1]}));
    }

    #[test]
    fn anchors_aliases_and_merges_are_followed_but_not_into_a_bomb() {
        let node = one("a: &a {p: 1, q: 2}\nb: *a\nc: {<<: *a, p: 3}\n");
        let expected = json!({"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}, "c": {"p": 3, "q": 2}});
        assert_eq!(node.to_json(), expected);
        let mut bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
        for n in 1..9 {
            bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")));
        }
        assert!(documents(&bomb).remove(0).unwrap_err().what.contains("too large"));
        assert!(documents("a: &a [*a]\n").remove(0).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_and_every_fault_has_a_line(text in "\\PC{0,200}|[-a-c:{}\\[\\],&*!|>'\"#%@ \\t\\n]{0,120}") {
            let lines = text.lines().count() + 1;
            for found in documents(&text) {
                match found {
                    Ok(node) => prop_assert!((1..=lines).contains(&node.line)),
                    Err(fault) => {
                        prop_assert!((1..=lines).contains(&fault.line), "{fault:?}");
                        prop_assert!(!fault.what.is_empty());
                    }
                }
            }
        }

        #[test]
        fn what_json_says_is_what_is_read(value in any_json()) {
            let text = serde_json::to_string_pretty(&value).unwrap();
            // A member that is null is left out, and a document that is null is none.
            prop_assert_eq!(documents(&text).remove(0).unwrap().to_json(), value);
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            "\\PC{0,12}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[a-z]{1,6}", inner, 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }
}
