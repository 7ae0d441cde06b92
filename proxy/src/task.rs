//! A task that ends with its owner.

use std::future::Future;
use tokio::task::{AbortHandle, spawn_local};

#[derive(Debug)]
pub struct Owned(AbortHandle);

impl Owned {
    pub fn spawn(task: impl Future<Output = ()> + 'static) -> Owned {
        Owned(spawn_local(task).abort_handle())
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}
