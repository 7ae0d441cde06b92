//! The edges that standalone mode and a cluster do not share, as `main` sees them. This file makes those of standalone mode.

use crate::{
    accounts::Accounts,
    api::Login,
    ca::Authority,
    config::Config,
    grpc::Door,
    standing::Standing,
    tokens::Tokens,
    world::{Batch, Source, manifests},
};
use anyhow::Context;
use std::{fs, os::unix::fs::DirBuilderExt, path::Path, sync::Arc, time::SystemTime};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

pub struct Edges {
    pub batches: mpsc::Receiver<Batch>,
    pub source: Source,
    pub authority: watch::Receiver<Arc<Authority>>,
    pub accounts: Accounts,
    pub door: Door,
    /// What people see as the cluster's name.
    pub cluster: String,
    /// Who may read the API.
    pub login: Login,
    /// Our place among the replicas.
    pub standing: watch::Receiver<Standing>,
}

impl Edges {
    /// A folder of manifests; keys and tokens in files; plaintext from loopback.
    pub fn standalone(config: &Config, manifests: &Path, listener: TcpListener) -> anyhow::Result<Edges> {
        for (flag, addr) in [("--grpc-addr", config.grpc_addr), ("--http-addr", config.http_addr)] {
            if !addr.ip().is_loopback() {
                tracing::warn!(%addr, "{flag}: other machines may come in here, in plaintext and without a login");
            }
        }
        let state_dir = config.state_dir.as_deref().context("--state-dir is missing")?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir).with_context(|| {
            format!("making the state folder {} (choose another with --state-dir)", state_dir.display())
        })?;
        let authority =
            Authority::open(state_dir, &config.trust_domain, config.leaf_lifetime, SystemTime::now())?;
        let tokens = Arc::new(Tokens::open(state_dir)?);
        let mut folder = manifests::Folder::open(manifests, state_dir)?;
        // Capacity 1: the folder waits until its last content is applied.
        let (sent, batches) = mpsc::channel(1);
        // The first content is there before anybody can ask.
        let first = folder.read().context("the manifests cannot be listed, see above")?;
        sent.try_send(first).context("reading the manifests")?;
        tokio::spawn(manifests::run(folder, sent));
        Ok(Edges {
            batches,
            source: Source::Manifests(tokens.clone()),
            authority: watch::channel(Arc::new(authority)).1,
            accounts: Accounts::Files(tokens),
            door: Door::Plain(listener),
            cluster: "standalone".into(),
            login: Login::Open,
            standing: watch::channel(Standing::default()).1,
        })
    }
}
