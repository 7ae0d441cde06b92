//! The definitions (CRDs) of the Gateway API's kinds, of the version that its conformance suite has.

use crate::{go, shell};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Folder below `e2e/node/` whose Go module names the version.
pub const MODULE: &str = "conformance";

#[derive(Clone, Copy, Debug)]
pub enum Channel {
    /// What clusters have.
    Standard,
    /// With kinds and fields that may still change.
    Experimental,
}

/// The folder of a channel, as Go's module proxy has it.
pub fn definitions(channel: Channel) -> Result<PathBuf> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Downloaded {
        dir: PathBuf,
    }
    let mut download = Command::new("go");
    download.args(["mod", "download", "-json", "sigs.k8s.io/gateway-api"]).current_dir(go::source(MODULE));
    let printed = shell::output(&mut download)?;
    let Downloaded { dir } = serde_json::from_str(&printed).context("read what go mod download says")?;
    Ok(dir.join("config/crd").join(match channel {
        Channel::Standard => "standard",
        Channel::Experimental => "experimental",
    }))
}

/// Copies the definitions alone: beside them lies a list of them, which is no object.
pub fn copy(channel: Channel, into: &Path) -> Result<()> {
    let from = definitions(channel)?;
    fs::create_dir(into).with_context(|| format!("create {}", into.display()))?;
    for entry in fs::read_dir(&from).with_context(|| format!("read {}", from.display()))? {
        let path = entry.with_context(|| format!("read {}", from.display()))?.path();
        let name = path.file_name().unwrap_or_default();
        if name != "kustomization.yaml" {
            let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            fs::write(into.join(name), text).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}
