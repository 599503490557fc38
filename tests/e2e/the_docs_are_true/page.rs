//! A page, cut into its blocks of code.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use world::repository;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Kubernetes objects.
    Manifests,
    /// Something else that commands read as a file.
    File,
    /// Commands.
    Shell,
    /// Commands with what they print.
    Session,
    /// JSON.
    Json,
    /// A drawing.
    Text,
    /// What cannot run here, for a reason that stands beside it.
    NotRun,
}

/// One block of code.
#[derive(Debug)]
pub(super) struct Block {
    /// The line of its fence, from 1.
    pub(super) line: usize,
    pub(super) class: Class,
    /// Without the indentation of its fence.
    pub(super) text: String,
    /// The name of the file that it is.
    pub(super) file: Option<String>,
    /// The exit status with which its commands are shown to fail, if they are.
    pub(super) fails: Option<u8>,
}

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    /// Below the repository.
    pub(super) path: PathBuf,
    /// What is there when it begins.
    pub(super) stage: Value,
    pub(super) blocks: Vec<Block>,
}

impl Page {
    /// Reads it; fails where a block says not what it is.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(repository().join(path))
            .with_context(|| format!("{} is not there", path.display()))?;
        let mut page = Self { path: path.to_owned(), stage: Value::Null, blocks: Vec::new() };
        let mut lines = text.lines().enumerate();
        let mut note = String::new();
        let mut before = "";
        while let Some((number, line)) = lines.next() {
            let here = || format!("{}:{}", path.display(), number + 1);
            let fence = line.trim_start();
            if let Some(language) = fence.strip_prefix("```") {
                let indent = line.len() - fence.len();
                let inside = lines.by_ref().map(|(_, line)| line);
                let code: Vec<&str> = inside.take_while(|line| line.trim() != "```").collect();
                let text: String = code
                    .iter()
                    .map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n")
                    .collect();
                page.blocks.push(Block::new(number + 1, language, text, &note).with_context(here)?);
                note.clear();
            } else if let Some(comment) = line.trim().strip_prefix("<!--") {
                note = comment.to_owned();
                while !note.contains("-->") {
                    let (_, more) = lines.next().with_context(here)?;
                    note = format!("{note}\n{more}");
                }
                note = note.trim().trim_end_matches("-->").trim_end().to_owned();
                if let Some(stage) = note.strip_prefix("stage:") {
                    page.stage = serde_yaml::from_str(stage).with_context(here)?;
                }
            } else if !line.trim().is_empty() {
                let is_code =
                    line.starts_with("    ") && before.is_empty() && !page.is_in_list(&text, number);
                ensure!(!is_code, "{}: an indented block of code: fence it", here());
                note.clear();
            }
            before = line.trim();
        }
        Ok(page)
    }

    /// Whether an indented line belongs to an item of a list.
    fn is_in_list(&self, text: &str, number: usize) -> bool {
        let before: Vec<&str> = text.lines().take(number).collect();
        let outer = before.iter().rev().find(|line| !line.is_empty() && !line.starts_with(' '));
        outer.is_some_and(|line| line.starts_with("- ") || line.split('.').next().is_some_and(is_number))
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Block {
    fn new(line: usize, language: &str, text: String, note: &str) -> Result<Self> {
        let file = note.strip_prefix(" file:").or_else(|| note.strip_prefix("file:"));
        let file = file.map(|name| name.trim().to_owned());
        let fails = note.trim().strip_prefix("fails").map(|rest| {
            let status = rest.strip_prefix(':').and_then(|status| status.trim().parse::<u8>().ok());
            status
                .filter(|status| *status != 0)
                .with_context(|| format!("`{note}`: it fails with which status?"))
        });
        let fails = fails.transpose()?;
        let mut block = Self { line, class: Class::Text, text, file, fails };
        if let Some(reason) = note.trim_start().strip_prefix("not run:") {
            ensure!(reason.trim().len() > 10, "not run without a reason");
            block.class = Class::NotRun;
            return Ok(block);
        }
        block.class = match language {
            "yaml" if block.objects()?.iter().all(|object| object["kind"].is_string()) => Class::Manifests,
            "yaml" if block.file.is_some() => Class::File,
            "yaml" => bail!("neither a manifest nor a file that a command reads"),
            "sh" => Class::Shell,
            "console" => Class::Session,
            "json" => Class::Json,
            "text" => Class::Text,
            other => bail!("`{other}` is no class of blocks; see tests/e2e/the_docs_are_true.rs"),
        };
        match block.class {
            Class::Json => drop(serde_json::from_str::<Value>(&block.text)?),
            Class::Session => ensure!(block.text.starts_with("$ "), "a console without a command"),
            _ if block.fails.is_some() => bail!("only a console can show a failure"),
            Class::Text => {
                let commands = ["$ ", "kubectl ", "aws ", "helm ", "make ", "instance-role-controller "];
                let found =
                    block.text.lines().find(|line| commands.iter().any(|word| line.starts_with(word)));
                ensure!(found.is_none(), "a command in a drawing: {found:?}");
            }
            Class::Manifests | Class::File | Class::Shell | Class::NotRun => {}
        }
        Ok(block)
    }

    /// The documents of a block of YAML.
    pub(super) fn objects(&self) -> Result<Vec<Value>> {
        let documents = serde_yaml::Deserializer::from_str(&self.text);
        documents.map(|document| Ok(serde::Deserialize::deserialize(document)?)).collect()
    }

    /// The commands of a session; a command goes on where its line ends in a backslash.
    pub(super) fn commands(&self) -> Vec<String> {
        let mut commands: Vec<String> = Vec::new();
        let mut open = false;
        for line in self.text.lines() {
            match line.strip_prefix("$ ") {
                Some(command) if !open => commands.push(command.to_owned()),
                _ if open => {
                    let newest = commands.last_mut();
                    newest.into_iter().for_each(|command| *command += &format!("\n{line}"));
                }
                _ => continue,
            }
            open = line.ends_with('\\');
        }
        commands
    }
}

/// The anchor of a heading, as GitHub and mdBook make it.
pub(super) fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
