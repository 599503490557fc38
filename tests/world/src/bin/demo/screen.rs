//! What goes to the terminal: headings, commands, lines; colours only where somebody sees them.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer lines are cut, so that a table stays a table.
const WIDTH: usize = 120;

/// How a piece of text looks on a terminal.
#[derive(Debug, Clone, Copy)]
pub enum Paint {
    /// A heading.
    Bold,
    /// What matters less.
    Dim,
    /// Right.
    Green,
    /// Wrong.
    Red,
    /// What a person typed.
    Blue,
}

/// The terminal, or the file that stands for it.
#[derive(Debug)]
pub struct Screen {
    colour: bool,
    started: Instant,
    steps: usize,
    step: AtomicUsize,
}

impl Screen {
    /// A screen for a story of so many steps.
    pub fn new(steps: usize) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour, started: Instant::now(), steps, step: AtomicUsize::new(0) }
    }

    /// The time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The next step: what it does, and why that is of interest.
    pub fn step(&self, what: &str, why: &str) {
        let step = self.step.fetch_add(1, Ordering::Relaxed) + 1;
        let heading = format!("[{step}/{}] {what}", self.steps);
        self.print(&format!("\n{}", self.paint(Paint::Bold, &heading)));
        let why = folded(why, WIDTH - 2).join("\n  ");
        self.print(&format!("  {}\n", self.paint(Paint::Dim, &why)));
    }

    /// A command as a person would type it.
    pub fn command(&self, command: &str) {
        let lines = folded(&format!("$ {command}"), WIDTH - 6);
        self.print(&format!("  {}", self.paint(Paint::Blue, &lines.join(" \\\n      "))));
    }

    /// What a command printed.
    pub fn output(&self, text: &str) {
        for line in text.trim_end().lines() {
            self.print(&format!("  {}", cut(line, WIDTH - 2)));
        }
    }

    /// What a command printed, where each word counts: long lines go on in the next one.
    pub fn text(&self, text: &str) {
        for line in text.trim_end().lines() {
            let (indent, _) = line.split_at(line.len() - line.trim_start().len());
            let lines = if line.chars().count() < WIDTH - 2 {
                vec![line.to_owned()]
            } else {
                folded(line.trim_start(), WIDTH - 10)
            };
            self.print(&format!("  {indent}{}", lines.join("\n          ").trim_start()));
        }
    }

    /// One line.
    pub fn line(&self, text: &str) {
        self.print(&format!("  {text}"));
    }

    /// One line that matters less.
    pub fn aside(&self, text: &str) {
        self.print(&format!("  {}", self.paint(Paint::Dim, text)));
    }

    /// One line about something that went wrong.
    pub fn bad(&self, text: &str) {
        self.print(&format!("  {}", self.paint(Paint::Red, text)));
    }

    /// An empty line.
    pub fn gap(&self) {
        self.print("");
    }

    /// A tick or a cross.
    pub fn mark(&self, right: bool) -> String {
        if right { self.paint(Paint::Green, "✓") } else { self.paint(Paint::Red, "✗") }
    }

    /// A text that looks so on a terminal.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Green => "32",
            Paint::Red => "31",
            Paint::Blue => "36",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    fn print(&self, text: &str) {
        // Whoever reads may have gone (`make demo | head`): no reason to panic.
        let mut out = std::io::stdout().lock();
        drop(writeln!(out, "{text}").and_then(|()| out.flush()));
    }
}

/// A line in at most `width` characters; the cut is marked where it goes through a text and not between columns.
fn cut(line: &str, width: usize) -> String {
    let line = line.trim_end();
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let kept: String = line.chars().take(width - 1).collect();
    if kept.ends_with("  ") { kept.trim_end().to_owned() } else { format!("{kept}…") }
}

/// A text in lines of at most `width` characters, cut between words; runs of spaces stay as they are.
fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.trim_end().split(' ') {
        let long = |line: &String| line.chars().count() + 1 + word.chars().count() > width;
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if !long(line) => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_screen_ends() {
        assert_eq!(cut("carries demo-web   ", 20), "carries demo-web");
        assert_eq!(cut("ä → ü → ö", 6), "ä → ü…");
        assert_eq!(cut("True   carries demo-web        12s", 29), "True   carries demo-web");
    }

    #[test]
    fn a_text_is_folded_between_words() {
        let lines = folded(&"word ".repeat(60), 40);
        assert!(lines.iter().all(|line| line.starts_with("word") && line.chars().count() <= 40));
        assert_eq!(lines.join(" ").split(' ').count(), 60);
        assert_eq!(folded("Normal   Associated  attached app", 24), ["Normal   Associated ", "attached app"]);
    }
}
