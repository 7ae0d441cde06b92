//! Readiness is a guard too: whoever is not ready yet holds a `Block`, and `/ready` names those that are left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by everybody who must be ready, and by the admin server that says so.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    blocks: Arc<Mutex<Vec<&'static str>>>,
}

/// Until it is dropped, the proxy is not ready.
#[derive(Debug)]
#[must_use = "the proxy is ready as soon as this is dropped"]
pub struct Block {
    ready: Ready,
    name: &'static str,
}

impl Ready {
    /// `name` is what `/ready` shows: `identity`, `listeners`, `draining`.
    pub fn block(&self, name: &'static str) -> Block {
        self.lock().push(name);
        Block { ready: self.clone(), name }
    }

    /// What is not ready yet; empty when the proxy is.
    pub fn pending(&self) -> Vec<&'static str> {
        self.lock().clone()
    }

    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    /// A list of names cannot be left half-changed by a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut blocks = self.ready.lock();
        if let Some(at) = blocks.iter().position(|name| *name == self.name) {
            blocks.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_when_nobody_blocks() {
        let ready = Ready::default();
        let identity = ready.block("identity");
        let listeners = ready.block("listeners");
        drop(identity);
        assert_eq!(ready.pending(), ["listeners"]);
        drop(listeners);
        assert!(ready.is_ready());
    }
}
