//! The values that a command line gives.

use crate::arguments::ValuesOptions;
use anyhow::Context;
use mesh_charts::values::{Given, Values};
use std::fs;

/// Laid over `kept`, the values that a mesh was installed with: what a later version has among them is left out.
pub fn read(options: &ValuesOptions, namespace: Option<&str>, kept: Option<&str>) -> anyhow::Result<Values> {
    let mut given = Given::default();
    if let Some(kept) = kept {
        given.kept(kept)?;
    }
    for file in &options.values {
        let text = fs::read_to_string(file).with_context(|| format!("values file {}", file.display()))?;
        given.file(&text).with_context(|| format!("values file {}", file.display()))?;
    }
    if options.ha {
        given.set("ha=true")?;
    }
    if let Some(namespace) = namespace {
        given.set(&format!("namespace.name={namespace}"))?;
    }
    for set in &options.set {
        given.set(set).context("--set")?;
    }
    Ok(given.check()?)
}
