//! `crds`: what `crds/` holds.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::api;

/// Arguments of `crds`.
#[derive(Debug, Args)]
pub struct CrdsArgs {
    /// Write one file for each into this folder instead of printing them
    #[arg(long, value_name = "FOLDER")]
    output_dir: Option<PathBuf>,
}

/// Prints or writes the CRDs.
pub fn crds(args: &CrdsArgs) -> anyhow::Result<()> {
    let mut printed = String::new();
    for crd in api::crds() {
        let yaml = serde_yaml::to_string(&crd).context("a CRD cannot be printed")?;
        match &args.output_dir {
            Some(folder) => {
                let file = folder.join(format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural));
                std::fs::write(&file, yaml)
                    .with_context(|| format!("--output-dir: {} cannot be written", file.display()))?;
            }
            None => write!(printed, "---\n{yaml}").context("a CRD cannot be printed")?,
        }
    }
    print!("{printed}");
    Ok(())
}
