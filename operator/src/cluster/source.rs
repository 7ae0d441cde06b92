//! A cluster as a source of watch events: one watch per kind, all of them into one sequence of batches. Nothing is passed on as
//! complete before every kind has been listed once; while the API server is away, what was known stays.

use super::{backoff::Backoff, prune, served, troubles::ByPart};
use crate::world::{Batch, stores::Change};
use futures_util::{Stream, StreamExt};
use k8s_openapi::api::{
    core::v1::{Namespace, Node, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        utils::ResetTimerBackoff,
        watcher::{self, Event, watcher},
    },
};
use mesh_policy::{Diagnostic, Pod, pod::Templates};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// One event of one kind, or what became of an object that could not be read.
#[derive(Debug)]
pub(super) struct Heard {
    pub kind: &'static str,
    /// With this event, all objects of the kind have been told.
    pub listed: bool,
    pub change: Option<Change>,
    pub note: Note,
}

#[derive(Debug, Default)]
pub(super) enum Note {
    #[default]
    Nothing,
    /// All that was said about this kind is to be said again.
    Anew,
    Readable(String),
    Unreadable(Diagnostic),
}

/// The kinds that have to be listed before there is a world.
const KINDS: usize = 9;
/// Events that wait to be applied; watches wait for room.
const BACKLOG: usize = 512;
/// The API server ends a watch after this long, and it is begun again: so long can one that has silently died be believed.
const WATCH_S: u32 = 60;
/// Objects in one page of a list: a page of Pods is a megabyte or two, which is there twice while it is read.
const PAGE: u32 = 100;

/// Watches until nobody listens to `batches`.
pub async fn run(
    client: Client,
    control_namespace: String,
    served: watch::Sender<served::Served>,
    mut troubles: watch::Receiver<ByPart>,
    batches: mpsc::Sender<Batch>,
) {
    let (heard, mut hear) = mpsc::channel(BACKLOG);
    // Watches end with this task.
    let mut watches = JoinSet::new();
    let namespace: Arc<str> = control_namespace.into();
    macro_rules! watch {
        ($kind:ident, $event:ty, $keep:expr) => {
            watches.spawn(follow(
                stringify!($kind),
                events(Api::<$event>::all(client.clone()), watcher::Config::default()),
                heard.clone(),
                move |event| Change::$kind(map(event, $keep)),
            ));
        };
    }
    watch!(Namespace, PartialObjectMeta<Namespace>, |all| prune::namespace(all.metadata));
    watch!(ServiceAccount, PartialObjectMeta<ServiceAccount>, |all| prune::service_account(all.metadata));
    watch!(Node, PartialObjectMeta<Node>, |all| prune::node(all.metadata));
    watch!(Service, Service, prune::service);
    watch!(EndpointSlice, EndpointSlice, prune::endpoint_slice);
    let templates = Templates::default();
    watch!(Pod, Pod, |all| templates.share(prune::pod(all, &namespace)));
    served::start(&client, &heard, &served, &mut watches);
    drop(heard);

    let mut listed = BTreeSet::new();
    let mut unreadable: BTreeMap<String, Diagnostic> = BTreeMap::new();
    let mut some = Vec::with_capacity(BACKLOG);
    loop {
        tokio::select! {
            heard = hear.recv_many(&mut some, BACKLOG) => if heard == 0 { return },
            Ok(()) = troubles.changed() => {}
        }
        let mut batch = Batch::default();
        for heard in some.drain(..) {
            if heard.listed && listed.insert(heard.kind) && listed.len() == KINDS {
                tracing::info!("the cluster's objects have been listed");
            }
            batch.changes.extend(heard.change);
            match heard.note {
                Note::Nothing => {}
                Note::Anew => unreadable.retain(|object, _| object.split(' ').next() != Some(heard.kind)),
                Note::Readable(object) => drop(unreadable.remove(&object)),
                Note::Unreadable(diagnostic) => {
                    unreadable.insert(diagnostic.object.clone(), diagnostic);
                }
            }
        }
        batch.partial = listed.len() < KINDS;
        batch.unreadable = unreadable.values().cloned().collect();
        batch.unreadable.extend(troubles.borrow_and_update().values().flatten().cloned());
        if batches.send(batch).await.is_err() {
            return;
        }
    }
}

/// The events of a kind, for ever: whatever goes wrong is tried again.
pub(super) fn events<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = config.timeout(WATCH_S).page_size(PAGE);
    // A list begins with a success of its own (`Init`), which must not reset the delay.
    let calm = Duration::from_secs(30);
    watcher(api, config).backoff(ResetTimerBackoff::new(Backoff::api(), calm))
}

async fn follow<K>(
    kind: &'static str,
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    heard: mpsc::Sender<Heard>,
    change: impl Fn(Event<K>) -> Change,
) {
    let mut outage = Outage::new(kind);
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        let Some(event) = outage.look(event) else { continue };
        let listed = matches!(event, Event::InitDone);
        let change = Some(change(event));
        if heard.send(Heard { kind, listed, change, note: Note::Nothing }).await.is_err() {
            return;
        }
    }
}

/// The same event about what is kept of the object.
fn map<A, B>(event: Event<A>, keep: impl Fn(A) -> B) -> Event<B> {
    match event {
        Event::Apply(object) => Event::Apply(keep(object)),
        Event::Delete(object) => Event::Delete(keep(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(keep(object)),
        Event::InitDone => Event::InitDone,
    }
}

/// Says once that a watch is broken, and once that it is back.
pub(super) struct Outage {
    kind: &'static str,
    away: bool,
}

impl Outage {
    pub fn new(kind: &'static str) -> Outage {
        Outage { kind, away: false }
    }

    pub fn look<K>(&mut self, event: watcher::Result<Event<K>>) -> Option<Event<K>> {
        match event {
            Ok(event) => {
                // A list begins before anything was answered.
                if self.away && !matches!(event, Event::Init) {
                    self.away = false;
                    tracing::info!(kind = self.kind, "watching again");
                }
                Some(event)
            }
            Err(error) => {
                if !self.away {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::warn!(
                        kind = self.kind,
                        error,
                        "watch is broken; what was known stays, trying again"
                    );
                }
                self.away = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
