//! The folder that outlives a run: the operator's CA and tokens, and everybody's logs. It is the user's alone (0700).

use anyhow::{Context, bail};
use std::{
    env, fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    pub fn create(chosen: Option<&Path>) -> anyhow::Result<StateDir> {
        let path = match chosen {
            Some(path) => path.to_owned(),
            None => default_path()?,
        };
        let remedy =
            || format!("state folder {}: not writable (choose another with --state-dir)", path.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).with_context(remedy)?;
        let path = path.canonicalize().with_context(remedy)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).with_context(remedy)?;
        fs::create_dir_all(path.join("log")).with_context(remedy)?;
        fs::write(path.join("log/.writable"), "").with_context(remedy)?;
        Ok(StateDir { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Written by the operator for each ServiceAccount that it has read.
    pub fn token(&self, namespace: &str, service_account: &str) -> PathBuf {
        self.path.join("tokens").join(namespace).join(service_account)
    }

    pub fn trust_anchors(&self) -> PathBuf {
        self.path.join("trust-anchors.pem")
    }
}

fn default_path() -> anyhow::Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(state) = set("XDG_STATE_HOME") {
        return Ok(state.join("mesh/demo"));
    }
    match set("HOME") {
        Some(home) => Ok(home.join(".local/state/mesh/demo")),
        None => bail!("neither XDG_STATE_HOME nor HOME is set: name a folder with --state-dir"),
    }
}
