//! Keeps [`Tables`] current: a source of watch events feeds reflector stores; when they have changed, the tables are built anew
//! and published. Where events come from (a folder, a cluster) ends at [`Batch`].

pub mod manifests;
pub mod parse;
pub mod slices;
pub mod stores;
mod unknown;

use crate::{cluster::reconcile, tokens::Tokens};
use k8s_openapi::jiff::Timestamp;
use mesh_policy::{Diagnostic, Origin, Settings, Tables};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use stores::{Change, Stores};
use tokio::{
    sync::{mpsc, watch},
    time,
};

/// Where objects come from: it decides what has to be added to them.
#[derive(Clone, Debug)]
pub enum Source {
    /// Plain manifests: no controller has made EndpointSlices, no injector has marked Pods, nobody has made tokens.
    Manifests(Arc<Tokens>),
    Cluster,
}

/// Events that belong together: tables are never built between two of them.
#[derive(Debug, Default)]
pub struct Batch {
    /// The first lists of a cluster are still under way: nothing is built of half a world.
    pub partial: bool,
    pub changes: Vec<Change>,
    /// Where the objects stand, and what could not be read; replaces what was known before.
    pub origins: BTreeMap<String, Origin>,
    pub unreadable: Vec<Diagnostic>,
}

/// After a change we wait this long for more, and at most `DEBOUNCE_MOST` in all.
const DEBOUNCE: Duration = Duration::from_millis(20);
const DEBOUNCE_MOST: Duration = Duration::from_millis(200);

/// Builds tables from `batches` until they end.
pub async fn run(
    mut stores: Stores,
    mut batches: mpsc::Receiver<Batch>,
    settings: Settings,
    source: Source,
    tables: watch::Sender<Arc<Tables>>,
) {
    let mut origins = BTreeMap::new();
    let mut unreadable = vec![];
    let mut partial = false;
    while let Some(first) = batches.recv().await {
        let mut next = Some(first);
        let deadline = time::Instant::now() + DEBOUNCE_MOST;
        while let Some(batch) = next {
            for change in &batch.changes {
                stores.apply(change);
            }
            origins = batch.origins;
            unreadable = batch.unreadable;
            partial = batch.partial;
            let wait = (time::Instant::now() + DEBOUNCE).min(deadline);
            next = time::timeout_at(wait, batches.recv()).await.ok().flatten();
        }
        if partial {
            continue;
        }
        let mut world = stores.world();
        world.origins = origins.clone();
        world.unreadable = unreadable.clone();
        match &source {
            Source::Manifests(_) => slices::complete(&mut world, &settings.control_namespace),
            Source::Cluster => {
                let unmeshed = reconcile::unmeshed(&world.namespaces, &world.pods, Timestamp::now());
                world.unreadable.extend(unmeshed.iter().map(reconcile::Unmeshed::finding));
            }
        }
        let built = Tables::build(&world, &settings);
        if let Source::Manifests(tokens) = &source
            && let Err(error) = tokens.keep(built.service_accounts())
        {
            tracing::error!(
                error = format!("{error:#}"),
                "tokens of new service accounts could not be written"
            );
        }
        log(&tables.borrow(), &built);
        tables.send_replace(Arc::new(built));
    }
}

/// Logs what became wrong and what became right again, once.
fn log(before: &Tables, after: &Tables) {
    for finding in after.diagnostics().iter().filter(|finding| !before.diagnostics().contains(finding)) {
        tracing::warn!("{finding}");
    }
    let gone = before.diagnostics().iter().filter(|finding| !after.diagnostics().contains(finding)).count();
    if gone > 0 {
        tracing::info!(resolved = gone, "configuration problems are gone");
    }
    tracing::info!(
        pods = after.pods().len(),
        routes = after.routes().len(),
        problems = after.diagnostics().len(),
        "configuration applied"
    );
}
