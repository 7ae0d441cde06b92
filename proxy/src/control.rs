//! The control thread's side of discovery, as the workers see it: ask for a target, get a watch.
//! Streams, reconnects and decoding are its submodules' work.

pub mod backoff;
pub mod channel;

use crate::{
    config::Config,
    drain::Guard,
    identity::Credentials,
    policy::{endpoint::Endpoints, inbound, outbound},
    ready::Ready,
};
use std::sync::Arc;
use tokio::sync::watch;

/// What the control thread offers to everybody else.
#[derive(Clone, Debug)]
pub struct Control {
    pub discovery: Discovery,
    /// `None` until the first certificate; then always the newest.
    pub credentials: watch::Receiver<Option<Arc<Credentials>>>,
}

/// Starts identity and discovery as tasks of the running `LocalSet`; blocks readiness until the first certificate is there.
pub fn start(config: Arc<Config>, ready: &Ready, guard: &Guard) -> Control {
    let _ = (config, ready, guard);
    todo!()
}

/// A worker's way to ask. Cheap to clone, crosses threads.
#[derive(Clone, Debug)]
pub struct Discovery {}

impl Discovery {
    /// Watches the policy of a target. The first value may be `Pending`. The stream ends some time (the discovery idle time)
    /// after the last receiver is dropped.
    pub async fn outbound(&self, target: outbound::Target) -> watch::Receiver<outbound::Lookup> {
        let _ = target;
        todo!()
    }

    /// Watches the endpoints of a destination path, `name.namespace.svc.cluster.local:80`.
    pub async fn endpoints(&self, path: Arc<str>) -> watch::Receiver<Endpoints> {
        let _ = path;
        todo!()
    }

    /// Watches the policy of one of the application's ports; starts with the configured default.
    pub async fn inbound(&self, port: u16) -> watch::Receiver<Arc<inbound::Policy>> {
        let _ = port;
        todo!()
    }
}
