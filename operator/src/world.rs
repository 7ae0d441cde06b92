//! Keeps [`Tables`] current: a source of watch events feeds reflector stores; when they have changed, the tables are built anew
//! and published. Where events come from (a folder, a cluster) ends at [`Batch`].

pub mod manifests;
pub mod parse;
pub mod slices;
pub mod stores;
mod unknown;

use crate::tokens::Tokens;
use mesh_policy::{Diagnostic, Origin, Settings, Tables};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use stores::{Change, Stores};
use tokio::{
    sync::{mpsc, watch},
    time,
};

/// Events that belong together: tables are never built between two of them.
#[derive(Debug, Default)]
pub struct Batch {
    pub changes: Vec<Change>,
    /// Where the objects stand, and what could not be read; replaces what was known before.
    pub origins: BTreeMap<String, Origin>,
    pub unreadable: Vec<Diagnostic>,
}

/// After a change we wait this long for more, and at most `DEBOUNCE_MOST` in all.
const DEBOUNCE: Duration = Duration::from_millis(20);
const DEBOUNCE_MOST: Duration = Duration::from_millis(200);

/// Builds tables from `batches` until they end. `synthesize`: make the EndpointSlices that a cluster's controller would make.
pub async fn run(
    mut batches: mpsc::Receiver<Batch>,
    settings: Settings,
    tokens: Arc<Tokens>,
    tables: watch::Sender<Arc<Tables>>,
) {
    let mut stores = Stores::default();
    let mut origins = BTreeMap::new();
    let mut unreadable = vec![];
    while let Some(first) = batches.recv().await {
        let mut next = Some(first);
        let deadline = time::Instant::now() + DEBOUNCE_MOST;
        while let Some(batch) = next {
            for change in &batch.changes {
                stores.apply(change);
            }
            origins = batch.origins;
            unreadable = batch.unreadable;
            let wait = (time::Instant::now() + DEBOUNCE).min(deadline);
            next = time::timeout_at(wait, batches.recv()).await.ok().flatten();
        }
        let mut world = stores.world(&settings);
        world.origins = origins.clone();
        world.unreadable = unreadable.clone();
        let built = Tables::build(&world, &settings);
        if let Err(error) = tokens.keep(built.service_accounts()) {
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
