//! `mesh inject`: puts a proxy into every Pod of YAML files. Asks no cluster; the files go to standard output, what became of each
//! Pod to standard error.

use super::values;
use crate::{
    arguments::{FilesOptions, InjectOptions},
    reach::Reach,
    say::say,
};
use anyhow::Context;
use mesh_charts::inject::{Cluster, Injection, manifest};
use std::{fs, io, path::Path};

pub fn run(reach: &Reach, InjectOptions { files, values }: InjectOptions) -> anyhow::Result<()> {
    let namespace = reach.options.mesh_namespace.as_deref();
    let injection = Injection::of(&values::read(&values, namespace, None)?)?;
    // Files do not know their cluster; `--set proxy.sidecar=classic` is for old ones.
    let cluster = Cluster { native_sidecars: true };
    rewrite(&files, |text| manifest::inject_all(text, &injection, cluster))
}

/// Writes the changed files, and a line for each Pod.
pub fn rewrite(
    files: &FilesOptions,
    change: impl Fn(&str) -> Result<(String, Vec<manifest::Entry>), manifest::Error>,
) -> anyhow::Result<()> {
    let mut texts = vec![];
    for file in &files.files {
        let before = read(file)?;
        let (text, entries) = change(&before).with_context(|| file.display().to_string())?;
        for entry in entries {
            eprintln!("{entry}");
        }
        if !text.is_empty() {
            texts.push(text);
        }
    }
    say(&texts.join("---\n"));
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        return io::read_to_string(io::stdin()).context("read standard input");
    }
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}
