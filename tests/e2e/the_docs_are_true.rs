//! The README, those of `deploy/` and the pages of `docs/` are true: every block of code in them is run here, against the real API server and
//! the emulated EC2, in the order in which a reader meets it.
//!
//! What a block is follows from its language, and from a comment before it, which no reader sees:
//! - `yaml`: manifests, which the API server must take (dry run, strict). After `<!-- file: NAME -->` it is a file
//!   of that name for the commands that follow.
//! - `sh`: commands that must succeed. Those of a page are one script.
//! - `console`: commands after `$ ` with what they print, which must be the same, ids and times aside.
//!   `UPDATE_DOCS=1 make e2e T=every_command` writes it anew. After `<!-- fails: 2 -->` they fail, with that status.
//! - `json`: must be JSON; also a file where one is named.
//! - `text`: a drawing; there is no command in it.
//!
//! `<!-- not run: REASON -->` is for what cannot run here. `<!-- stage: … -->` (YAML) tells what is there when a page begins.

mod page;
mod run;
mod steady;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use world::{World, repository};

use page::{Class, Page};

/// README and the pages of the book, in the order of its table of contents.
fn pages() -> Result<Vec<Page>> {
    let summary = std::fs::read_to_string(repository().join("docs/SUMMARY.md"))?;
    let listed = links(&summary).into_iter().map(|link| PathBuf::from("docs").join(link));
    std::iter::once(PathBuf::from("README.md")).chain(listed).map(|path| Page::read(&path)).collect()
}

/// The same, and the READMEs beside what is deployed.
fn all_pages() -> Result<Vec<Page>> {
    let mut beside = BTreeSet::new();
    files(Path::new("deploy"), &mut beside)?;
    let beside: Vec<Page> = beside.iter().map(|path| Page::read(path)).collect::<Result<_>>()?;
    Ok(pages()?.into_iter().chain(beside).collect())
}

/// Every page in a folder.
fn files(folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(repository().join(folder))? {
        let path = folder.join(entry?.file_name());
        if repository().join(&path).is_dir() {
            files(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "md") {
            found.insert(path);
        }
    }
    Ok(())
}

/// Where the links of a page lead, without those to other sites.
fn links(text: &str) -> Vec<String> {
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    ends.filter(|link| !link.starts_with('#')).map(str::to_owned).collect()
}

/// Every block has a class: reading fails otherwise. And what is not run is the exception.
#[test]
fn every_block_says_what_it_is() -> Result<()> {
    let pages = all_pages()?;
    let blocks: Vec<&page::Block> = pages.iter().flat_map(|page| &page.blocks).collect();
    let commands = blocks.iter().filter(|block| matches!(block.class, Class::Shell | Class::Session));
    let left_out = blocks.iter().filter(|block| matches!(block.class, Class::NotRun));
    let (commands, left_out) = (commands.count(), left_out.count());
    ensure!(commands > 40 && left_out * 3 < commands, "{commands} are run, {left_out} are not");
    Ok(())
}

#[test]
fn every_page_is_in_the_table_of_contents_once() -> Result<()> {
    let mut there = BTreeSet::new();
    files(Path::new("docs"), &mut there)?;
    there.remove(Path::new("docs/SUMMARY.md"));
    // Decisions on record are found by their folder.
    there.retain(|page| !page.starts_with("docs/adr") || page.ends_with("README.md"));
    let pages = pages()?;
    let listed: BTreeSet<PathBuf> = pages.iter().skip(1).map(|page| page.path.clone()).collect();
    assert_eq!(listed.len(), pages.len() - 1, "a page is listed twice");
    assert_eq!(listed, there);
    Ok(())
}

/// Links inside the book are relative; those to the rest of the repository name it, since the book stands elsewhere.
#[test]
fn every_link_leads_somewhere() -> Result<()> {
    const HERE: &str = "https://github.com/instancerole-dev/instance-role-controller/";
    for page in all_pages()? {
        let text = std::fs::read_to_string(repository().join(&page.path))?;
        for link in links(&text) {
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let file = match target.strip_prefix(HERE) {
                Some(rest) => {
                    let path = rest.strip_prefix("blob/main/").or_else(|| rest.strip_prefix("tree/main/"));
                    let Some(path) = path else { continue };
                    repository().join(path)
                }
                None if target.starts_with("https://") => continue,
                None => {
                    let folder = page.path.parent().context("a page in no folder")?;
                    let inside =
                        page.path.starts_with("docs") && !folder.join(target).starts_with("docs/../");
                    ensure!(inside || !page.path.starts_with("docs"), "{}: {link}", page.path.display());
                    repository().join(folder).join(target)
                }
            };
            ensure!(file.exists(), "{}: {link} leads nowhere", page.path.display());
            if !anchor.is_empty() {
                let there = std::fs::read_to_string(&file)?;
                let known = there.lines().any(|line| line.starts_with('#') && page::anchor(line) == anchor);
                ensure!(known, "{}: {link}: no such heading", page.path.display());
            }
        }
    }
    Ok(())
}

#[test]
fn the_api_server_takes_every_manifest() -> Result<()> {
    let plane = World::shared()?.control_plane();
    let mut tried = 0;
    for page in all_pages()? {
        for block in page.blocks.iter().filter(|block| matches!(block.class, Class::Manifests)) {
            for object in block.objects()? {
                if let Some(namespace) = object["metadata"]["namespace"].as_str() {
                    let namespace =
                        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
                    plane.apply(&namespace.to_string())?;
                }
            }
            let args = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
            let outcome = plane.admin().run_with(&args, Some(&block.text));
            outcome.with_context(|| format!("{}:{}", page.path.display(), block.line))?;
            tried += 1;
        }
    }
    ensure!(tried >= 15, "{tried} blocks of manifests");
    Ok(())
}

/// Pages are read side by side: mostly they wait.
#[test]
fn every_command_does_what_the_page_says() -> Result<()> {
    let pages = all_pages()?;
    let next = AtomicUsize::new(0);
    let read = || {
        let mut wrong = Vec::new();
        while let Some(page) = pages.get(next.fetch_add(1, Ordering::Relaxed)) {
            wrong.extend(run::follow(page).err().map(|error| format!("{error:#}")));
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
        readers
            .into_iter()
            .flat_map(|reader| reader.join().unwrap_or_else(|_| vec!["a panic".into()]))
            .collect()
    });
    ensure!(
        wrong.is_empty(),
        "{}\n\nUPDATE_DOCS=1 make e2e T=every_command writes anew what is printed",
        wrong.join("\n\n")
    );
    Ok(())
}
