//! A plan in its forms.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use clap::builder::styling::{AnsiColor, Style};

use super::row::{Operation, Row};

/// The forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// For people
    Table,
    /// A list of rows
    Json,
    /// The same as YAML
    Yaml,
    /// For a comment on a pull request
    Markdown,
}

/// More unchanged bindings than this are counted and not listed, where people read.
const UNCHANGED: usize = 20;
/// The longest comment that GitHub takes is 65 536 characters; GitLab takes more.
const COMMENT: usize = 60_000;

/// The plan as text.
pub(super) fn print(rows: &[Row], form: Form, coloured: bool) -> anyhow::Result<String> {
    Ok(match form {
        Form::Table => table(rows, coloured),
        Form::Json => serde_json::to_string_pretty(rows).context("the plan cannot be printed")? + "\n",
        Form::Yaml => serde_yaml::to_string(rows).context("the plan cannot be printed")?,
        Form::Markdown => markdown(rows),
    })
}

/// What a plan comes to, in a sentence.
fn summary(rows: &[Row]) -> String {
    let mut counts: BTreeMap<Operation, usize> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row.is_unchanged()) {
        *counts.entry(row.operation).or_default() += 1;
    }
    let words = [
        (Operation::AssociateIamInstanceProfile, "to associate"),
        (Operation::ReplaceIamInstanceProfileAssociation, "to replace"),
        (Operation::DisassociateIamInstanceProfile, "to disassociate"),
        (Operation::Wait, "waiting"),
        (Operation::Refuse, "refused"),
        (Operation::None, "left alone"),
    ];
    let mut parts: Vec<String> = words
        .iter()
        .filter_map(|(operation, words)| counts.get(operation).map(|count| format!("{count} {words}")))
        .collect();
    let unchanged = rows.iter().filter(|row| row.is_unchanged()).count();
    if parts.is_empty() {
        parts.push("nothing to do".to_owned());
    }
    if unchanged > 0 {
        parts.push(format!("{unchanged} unchanged"));
    }
    parts.join(", ")
}

/// The rows that are listed, and how many are left out.
fn listed(rows: &[Row]) -> (Vec<&Row>, usize) {
    let unchanged = rows.iter().filter(|row| row.is_unchanged()).count();
    if unchanged <= UNCHANGED {
        return (rows.iter().collect(), 0);
    }
    (rows.iter().filter(|row| !row.is_unchanged()).collect(), unchanged)
}

const HEAD: [&str; 8] = ["NAMESPACE", "NAME", "REGION", "INSTANCE", "OPERATION", "FROM", "TO", "REASON"];
/// Where the operation stands in a line.
const OPERATION: usize = 4;

fn table(rows: &[Row], coloured: bool) -> String {
    let (listed, left_out) = listed(rows);
    let lines: Vec<[String; 8]> = listed.iter().map(|row| cells(row)).collect();
    let mut widths = HEAD.map(str::len);
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    if !lines.is_empty() {
        line(&mut text, &HEAD.map(str::to_owned), &widths, None);
    }
    for (row, cells) in listed.iter().zip(&lines) {
        line(&mut text, cells, &widths, coloured.then(|| style(row.operation)));
        if explains(row) {
            let _ = writeln!(text, "  {}: {}", row.source, plain(&row.message));
        }
    }
    if left_out > 0 {
        let _ = writeln!(text, "({left_out} unchanged bindings are not listed here, but in -o json)");
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(text, "Plan: {}.", summary(rows));
    text
}

/// Whether a row says more than its cells.
fn explains(row: &Row) -> bool {
    let is_change = !matches!(row.operation, Operation::None | Operation::Wait | Operation::Refuse);
    !is_change && !row.is_unchanged()
}

fn cells(row: &Row) -> [String; 8] {
    let Row { namespace, name, region, instance_id, operation, from, to, reason, .. } = row;
    let text = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), plain);
    let profile = |arn: &Option<String>| text(&arn.as_deref().map(|arn| short(arn).to_owned()));
    [
        text(namespace),
        text(name),
        text(region),
        text(instance_id),
        operation.as_str().to_owned(),
        profile(from),
        profile(to),
        reason.clone(),
    ]
}

/// The name in an ARN.
fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// Without what a terminal might take for orders: the words of manifests are anybody's.
fn plain(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { ' ' } else { c }).collect()
}

fn line(text: &mut String, cells: &[String; 8], widths: &[usize; 8], style: Option<Style>) {
    let mut line = String::new();
    for (nth, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padded = format!("{cell:width$}");
        match style.filter(|_| nth == OPERATION) {
            Some(style) => line.push_str(&format!("{style}{padded}{style:#}")),
            None => line.push_str(&padded),
        }
        line.push_str("  ");
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

fn style(operation: Operation) -> Style {
    let colour = match operation {
        Operation::None => return Style::new().dimmed(),
        Operation::AssociateIamInstanceProfile => AnsiColor::Green,
        Operation::ReplaceIamInstanceProfileAssociation => AnsiColor::Yellow,
        Operation::DisassociateIamInstanceProfile => AnsiColor::Magenta,
        Operation::Wait => AnsiColor::Cyan,
        Operation::Refuse => return AnsiColor::Red.on_default().bold(),
    };
    colour.on_default()
}

fn markdown(rows: &[Row]) -> String {
    let shown: Vec<&Row> = rows.iter().filter(|row| !row.is_unchanged()).collect();
    let mut text = format!("### Instance profiles: {}\n", summary(rows));
    if !shown.is_empty() {
        text.push_str(
            "\n| binding | instance | operation | from | to | reason |\n|---|---|---|---|---|---|\n",
        );
    }
    for (nth, row) in shown.iter().enumerate() {
        let [namespace, name, region, instance, operation, from, to, reason] = cells(row).map(|c| code(&c));
        let message = if explains(row) { format!("<br>{}", prose(&row.message)) } else { String::new() };
        let source = code(&row.source);
        let line = format!(
            "| {namespace} {name}<br>{source} | {instance}<br>{region} | {operation} | {from} | {to} | {reason}{message} |\n"
        );
        if text.len() + line.len() > COMMENT {
            let _ = writeln!(text, "\n… and {} rows more: see the log of this job.", shown.len() - nth);
            break;
        }
        text.push_str(&line);
    }
    text
}

/// A word in a cell. Within a code span nothing is markup but the backtick, and in a table the bar.
fn code(text: &str) -> String {
    match text {
        "-" | "" => String::new(),
        text => format!("`{}`", text.replace('`', "'").replace('|', "\\|")),
    }
}

/// A sentence in a cell, where nothing of it may turn into markup.
fn prose(text: &str) -> String {
    let mut safe = String::new();
    for c in plain(text).chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '@' => safe.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '!' | '|' | '~' => {
                safe.push('\\');
                safe.push(c);
            }
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    fn some() -> Vec<Row> {
        let refused =
            Row { message: "no grant\u{1b}[31m | `x` @all <b>".into(), ..row("c", Operation::Refuse) };
        vec![row("a", Operation::None), row("b", Operation::ReplaceIamInstanceProfileAssociation), refused]
    }

    #[test]
    fn a_table_is_for_people_and_has_colour_only_when_asked_for() {
        let text = print(&some(), Form::Table, false).unwrap();
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("ReplaceIamInstanceProfileAssociation  old   new  Declared"), "{text}");
        assert!(text.contains("a.yaml:7: no grant [31m | `x` @all <b>"), "{text}");
        assert!(text.ends_with("Plan: 1 to replace, 1 refused, 1 unchanged.\n"), "{text}");
        let coloured = print(&some(), Form::Table, true).unwrap();
        assert!(coloured.contains("\u{1b}[33mReplaceIamInstanceProfileAssociation\u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn nothing_to_do_is_said_and_a_crowd_that_is_unchanged_only_counted() {
        assert_eq!(print(&[], Form::Table, false).unwrap(), "Plan: nothing to do.\n");
        let many: Vec<Row> = (0..30).map(|n| row(&format!("x{n}"), Operation::None)).collect();
        let text = print(&many, Form::Table, false).unwrap();
        assert!(!text.contains("x1") && text.ends_with("Plan: nothing to do, 30 unchanged.\n"), "{text}");
        assert!(print(&many, Form::Json, false).unwrap().contains("\"x29\""));
    }

    #[test]
    fn a_comment_carries_no_markup_of_others_and_is_not_too_long() {
        let text = print(&some(), Form::Markdown, false).unwrap();
        assert!(text.starts_with("### Instance profiles: 1 to replace, 1 refused, 1 unchanged\n"), "{text}");
        assert!(text.contains("no grant \\[31m \\| \\`x\\` &#64;all &lt;b&gt; |"), "{text}");
        let many: Vec<Row> = (0..2000).map(|n| row(&format!("x{n}"), Operation::Refuse)).collect();
        let text = print(&many, Form::Markdown, false).unwrap();
        assert!(text.len() < 65_536 && text.contains("rows more"), "{}", text.len());
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let json: serde_json::Value =
            serde_json::from_str(&print(&some(), Form::Json, false).unwrap()).unwrap();
        let yaml: serde_json::Value =
            serde_yaml::from_str(&print(&some(), Form::Yaml, false).unwrap()).unwrap();
        assert_eq!(json, yaml);
        assert_eq!(json[1]["operation"], "ReplaceIamInstanceProfileAssociation");
    }
}
