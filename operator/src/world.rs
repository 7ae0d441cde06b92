//! Keeps [`Tables`] current: a source of watch events feeds reflector stores; when they have changed, the next tables are built
//! and published. Where events come from (a folder, a cluster) ends at [`Batch`].

pub mod manifests;
pub mod parse;
pub mod slices;
pub mod stores;
mod unknown;

use crate::{cluster::reconcile, tokens::Tokens};
use k8s_openapi::{api::core::v1::Namespace, jiff::Timestamp};
use mesh_policy::{Diagnostic, List, Origin, Pod, Settings, Tables, World};
use std::{collections::BTreeMap, future::pending, ops::RangeInclusive, sync::Arc, time::Duration};
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
    Cluster(reconcile::Terms),
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

/// A change is published at once. Then what comes is gathered for as long as building took, so that a storm of changes takes no more
/// than half a processor, and within these bounds.
const GATHER: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(100);

/// Builds tables from `batches` until they end.
pub async fn run(
    mut stores: Stores,
    mut batches: mpsc::Receiver<Batch>,
    settings: Settings,
    source: Source,
    tables: watch::Sender<Arc<Tables>>,
) {
    let mut unmeshed = Unmeshed::default();
    let mut batch = Batch::default();
    loop {
        tokio::select! {
            received = batches.recv() => match received {
                Some(received) => batch = received,
                None => return,
            },
            () = unmeshed.grown() => batch.changes.clear(),
        }
        batch.changes.iter().for_each(|change| stores.apply(change));
        while let Ok(more) = batches.try_recv() {
            more.changes.iter().for_each(|change| stores.apply(change));
            batch = more;
        }
        if batch.partial {
            continue;
        }
        let start = time::Instant::now();
        let mut world = World {
            origins: batch.origins.clone().into(),
            unreadable: batch.unreadable.clone().into(),
            ..stores.world()
        };
        match &source {
            Source::Manifests(_) => slices::complete(&mut world, &settings.control_namespace),
            Source::Cluster(terms) => {
                let now = (Timestamp::now(), start);
                world.unmeshed = unmeshed.look(&world, terms, now);
            }
        }
        let before = tables.borrow().clone();
        let built = Arc::new(before.next(&world));
        if let Source::Manifests(tokens) = &source
            && let Err(error) = tokens.keep(built.service_accounts())
        {
            tracing::error!(
                error = format!("{error:#}"),
                "tokens of new service accounts could not be written"
            );
        }
        tables.send_replace(built.clone());
        log(&before, &built);
        drop((before, built));
        time::sleep(start.elapsed().clamp(*GATHER.start(), *GATHER.end())).await;
    }
}

/// What is said of Pods that should have a proxy and have none.
#[derive(Default)]
struct Unmeshed {
    of: (List<Namespace>, List<Pod>),
    looked: Option<time::Instant>,
    /// Whether some were passed over because they are young.
    young: bool,
    findings: Arc<Vec<Diagnostic>>,
}

impl Unmeshed {
    /// The same Pods are looked at again after this long: young ones have grown up, of which nothing was said.
    const AGAIN: Duration = Duration::from_secs(5);

    /// Returns when young Pods are to be looked at again, without anybody saying a word.
    async fn grown(&self) {
        match self.looked.filter(|_| self.young) {
            Some(looked) => time::sleep_until(looked + Unmeshed::AGAIN).await,
            None => pending().await,
        }
    }

    fn look(
        &mut self,
        world: &World,
        terms: &reconcile::Terms,
        (wall, now): (Timestamp, time::Instant),
    ) -> Arc<Vec<Diagnostic>> {
        let same = Arc::ptr_eq(&self.of.0, &world.namespaces) && Arc::ptr_eq(&self.of.1, &world.pods);
        if !same || self.looked.is_none_or(|looked| now - looked >= Unmeshed::AGAIN) {
            let found = reconcile::unmeshed(&world.namespaces, &world.pods, terms, wall);
            self.findings = Arc::new(found.unmeshed.iter().map(reconcile::Unmeshed::finding).collect());
            self.young = found.young;
            self.of = (world.namespaces.clone(), world.pods.clone());
            self.looked = Some(now);
        }
        self.findings.clone()
    }
}

/// Logs what became wrong and what became right again, once. Endpoints come and go without a word.
fn log(before: &Tables, after: &Tables) {
    if after.differs_in_endpoints_only(before) && after.unmeshed() == before.unmeshed() {
        return;
    }
    let said = |tables: &Tables| [tables.diagnostics(), tables.unmeshed()].concat();
    let (said_before, said_after) = (said(before), said(after));
    for finding in said_after.iter().filter(|finding| !said_before.contains(finding)) {
        tracing::warn!("{finding}");
    }
    let gone = said_before.iter().filter(|finding| !said_after.contains(finding)).count();
    if gone > 0 {
        tracing::info!(resolved = gone, "configuration problems are gone");
    }
    tracing::info!(
        pods = after.pods().len(),
        routes = after.routes().len(),
        problems = said_after.len(),
        "configuration applied"
    );
}

#[cfg(test)]
mod tests;
