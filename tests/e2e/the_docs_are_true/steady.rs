//! What a command prints, made the same each time: ids are told apart by their order, times are one time.

use std::collections::BTreeMap;

use anyhow::Result;
use regex_lite::{Captures, Regex};

/// Ids that AWS or Kubernetes invent, and how they are written in the docs: the number takes the place of the last digits.
const IDS: [(&str, &str); 4] = [
    (r"iip-assoc-[0-9a-f]{17}", "iip-assoc-0a1b2c3d4e5f60000"),
    (
        r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        "0d9c6f3a-5b1e-4c8d-9f27-3e4a5b6c0000",
    ),
    (r"\bAIPA[A-Z0-9]{17}\b", "AIPAEXAMPLEEXAMPL0000"),
    (r"\b[0-9a-f]{32}\b", "4bf92f3577b34da6a3ce929d0e0e0000"),
];

/// What else differs from run to run, and what stands in its place.
const TIMES: [(&str, &str); 4] = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "2026-06-01T09:00:00.000000Z"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-06-01T09:00:00Z"),
    (r"(Resource Version: +)\d+", "${1}4711"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:8080"),
];

/// The text with steady ids and times.
pub(super) fn steady(text: &str) -> Result<String> {
    let mut text = text.trim_end().to_owned();
    for (pattern, like) in IDS {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let ids = Regex::new(pattern)?;
        text = ids
            .replace_all(&text, |found: &Captures<'_>| {
                let next = seen.len() + 1;
                let number = *seen.entry(found[0].to_owned()).or_insert(next);
                format!("{}{number:04}", &like[..like.len() - 4])
            })
            .into_owned();
    }
    for (pattern, like) in TIMES {
        text = Regex::new(pattern)?.replace_all(&text, like).into_owned();
    }
    // An age in a column keeps the width of the column, if others follow.
    let age = Regex::new(r"(?m)(^| )(?:\d+m)?\d+s( +|$)")?;
    let text = age.replace_all(&text, |found: &Captures<'_>| {
        let width = found[0].len() - found[1].len();
        let width = if found[2].is_empty() { 0 } else { width };
        format!("{}{:<width$}", &found[1], "12s")
    });
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    Ok(lines.join("\n") + "\n")
}

#[test]
fn two_runs_of_one_command_read_alike() -> Result<()> {
    let one = "web-1  True  carries web  9s\nNormal  Attached  3s    us  iip-assoc-0123456789abcdef0 at 2026-11-25T15:00:01Z\n";
    let two = "web-1  True  carries web  14s\nNormal  Attached  11s   us  iip-assoc-0fedcba9876543210 at 2025-01-02T03:04:05Z\n";
    assert_eq!(steady(one)?, steady(two)?);
    assert_ne!(steady(one)?, steady(&two.replace("True", "False"))?);
    let (same, other) = ("iip-assoc-0123456789abcdef0", "iip-assoc-0fedcba9876543210");
    assert_ne!(steady(&format!("{same} {same}"))?, steady(&format!("{same} {other}"))?);
    Ok(())
}
