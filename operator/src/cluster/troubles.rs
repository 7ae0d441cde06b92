//! What is wrong with what the operator itself works with: found by the parts of it that do the work, and told beside everything that
//! is wrong with the configuration.

use mesh_policy::{Diagnostic, Severity};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// By the part that found it.
pub type ByPart = BTreeMap<&'static str, Vec<Diagnostic>>;

/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Troubles(watch::Sender<ByPart>);

impl Troubles {
    /// Replaces what this part has said.
    pub fn set(&self, part: &'static str, now: Vec<Diagnostic>) {
        self.0.send_if_modified(|all| {
            let before = all.insert(part, now);
            before.unwrap_or_default() != all[part]
        });
    }

    pub fn watch(&self) -> watch::Receiver<ByPart> {
        self.0.subscribe()
    }
}

/// About an object that stands nowhere in the manifests.
pub fn trouble(object: String, message: String, remedy: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        path: String::new(),
        document: 0,
        line: 0,
        object,
        message,
        remedy,
    }
}
