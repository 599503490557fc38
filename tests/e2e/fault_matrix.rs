//! `docs/fault-matrix.md` names a test for each case; each of them is there.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use world::repository;

#[test]
fn every_case_of_the_fault_matrix_names_a_test_that_exists() -> Result<()> {
    let page = std::fs::read_to_string(repository().join("docs/fault-matrix.md"))?;
    let mut cases: BTreeMap<&str, usize> = BTreeMap::new();
    let mut tests = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let mut columns = row.trim_matches('|').split('|').map(str::trim);
        let (pattern, _case) = (columns.next().context("no pattern")?, columns.next().context("no case")?);
        *cases.entry(pattern).or_default() += 1;
        // `file.rs` `name`, `name`; `other.rs` `name`
        let mut file = None;
        for word in columns.next().context("no tests")?.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                let path = repository().join(word);
                let text =
                    std::fs::read_to_string(&path).with_context(|| format!("{row}: no file {word}"))?;
                file = Some((word, text));
                continue;
            }
            let (name, text) = file.as_ref().with_context(|| format!("{row}: no file before {word}"))?;
            ensure!(text.contains(&format!("fn {word}(")), "{name} has no test {word}");
            tests += 1;
        }
        ensure!(file.is_some(), "{row}: names no test");
    }
    ensure!(cases.len() >= 7, "a pattern of the matrix is missing: {cases:?}");
    println!("{tests} tests for {} cases of {} patterns", cases.values().sum::<usize>(), cases.len());
    Ok(())
}
