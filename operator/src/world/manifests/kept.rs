//! What each manifest said when it could last be read, on disk: an operator that starts while a file is broken goes on from there,
//! as one that never stopped does.

use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Texts by path within the folder of manifests.
#[derive(Debug)]
pub struct Kept {
    file: PathBuf,
    content: Content,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
struct Content {
    /// Whose texts these are: the state folder may have served another one before.
    folder: PathBuf,
    texts: BTreeMap<String, String>,
}

impl Kept {
    /// What `state_dir` holds of `folder`. What cannot be read is as good as nothing, and said.
    pub fn open(state_dir: &Path, folder: &Path) -> Kept {
        let file = state_dir.join("last-good-manifests.json");
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let content = read(&file).unwrap_or_else(|error| {
            tracing::warn!(error = format!("{error:#}"), "last good manifests are lost");
            Content::default()
        });
        let content =
            if content.folder == folder { content } else { Content { folder, texts: BTreeMap::new() } };
        Kept { file, content }
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.content.texts.get(path).map(String::as_str)
    }

    /// Keeps exactly these from now on.
    pub fn replace(&mut self, texts: BTreeMap<String, String>) {
        if texts == self.content.texts {
            return;
        }
        self.content.texts = texts;
        let written = serde_json::to_vec(&self.content)
            .context("last good manifests as JSON")
            .and_then(|json| crate::ca::write(&self.file, &json, 0o600));
        if let Err(error) = written {
            let error = format!("{error:#}");
            tracing::warn!(error, "a restart while a manifest is broken would start without it");
        }
    }
}

fn read(file: &Path) -> anyhow::Result<Content> {
    let reading = || format!("reading {}", file.display());
    let json = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
        json => json.with_context(reading)?,
    };
    serde_json::from_slice(&json).with_context(reading)
}
