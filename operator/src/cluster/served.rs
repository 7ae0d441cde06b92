//! Kinds that a cluster may not have: routes and our own. Each is watched in a version that is served; when its definition appears,
//! goes or changes, the watch begins anew. Objects are read one by one, so that a bad one harms no other.

use super::{
    backoff::Backoff,
    prune,
    source::{Heard, Note, Outage, events},
};
use crate::world::stores::{Change, Unread, UnreadEvent};
use futures_util::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ObjectMeta},
    core::PartialObjectMeta,
    discovery,
    runtime::watcher::Event,
};
use mesh_api::names;
use mesh_policy::{
    Diagnostic, Severity,
    authorization::{self, AuthorizationPolicy},
    gateway,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{collections::BTreeMap, pin::pin, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};

/// A kind, and the versions of it that we can read, best first.
struct Wanted {
    kind: &'static str,
    group: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
    change: fn(Event<DynamicObject>) -> Read,
}

const WANTED: [Wanted; 3] = [
    Wanted {
        kind: "HTTPRoute",
        group: gateway::GROUP,
        plural: "httproutes",
        versions: &["v1", "v1beta1"],
        change: |event| read("HTTPRoute", event, Change::HttpRoute, Change::UnreadHttpRoute, None),
    },
    Wanted {
        kind: "GRPCRoute",
        group: gateway::GROUP,
        plural: "grpcroutes",
        versions: &["v1"],
        change: |event| read("GRPCRoute", event, Change::GrpcRoute, Change::UnreadGrpcRoute, None),
    },
    Wanted {
        kind: "AuthorizationPolicy",
        group: names::API_GROUP,
        plural: "authorizationpolicies",
        versions: &[names::API_VERSION],
        change: |event| {
            let change = (Change::AuthorizationPolicy, Change::UnreadAuthorizationPolicy);
            read("AuthorizationPolicy", event, change.0, change.1, Some(closed_policy))
        },
    },
];

/// A definition that has changed is looked at again this often …
const SETTLE: Duration = Duration::from_millis(500);
/// … for this many times: what the API server serves lags behind what it has been told.
const LOOKS: u32 = 10;
/// Without a word about definitions (we may not read them), what is served is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// By kind, the version that is watched: what is written goes there too.
pub(super) type Served = BTreeMap<&'static str, ApiResource>;

pub(super) fn start(
    client: &Client,
    heard: &mpsc::Sender<Heard>,
    served: &watch::Sender<Served>,
    watches: &mut JoinSet<()>,
) {
    let (touched, _) = watch::channel(());
    for wanted in WANTED {
        watches.spawn(run(client.clone(), wanted, touched.subscribe(), heard.clone(), served.clone()));
    }
    watches.spawn(definitions(client.clone(), touched));
}

/// Says when a definition of a kind that we want has changed.
async fn definitions(client: Client, touched: watch::Sender<()>) {
    let mut outage = Outage::new("CustomResourceDefinition");
    let mut events =
        pin!(events(Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client), Default::default()));
    while let Some(event) = events.next().await {
        let ours = |object: &PartialObjectMeta<CustomResourceDefinition>| {
            let name = object.name_any();
            WANTED.iter().any(|wanted| name == format!("{}.{}", wanted.plural, wanted.group))
        };
        match outage.look(event) {
            Some(Event::Apply(object) | Event::Delete(object)) if ours(&object) => touched.send_replace(()),
            Some(Event::InitDone) => touched.send_replace(()),
            _ => {}
        }
    }
}

async fn run(
    client: Client,
    wanted: Wanted,
    mut touched: watch::Receiver<()>,
    heard: mpsc::Sender<Heard>,
    known: watch::Sender<Served>,
) {
    let mut delays = Backoff::api();
    loop {
        let resource = match served(&client, &wanted).await {
            Ok(resource) => resource,
            Err(error) => {
                tracing::debug!(kind = wanted.kind, %error, "what is served cannot be told; trying again");
                time::sleep(delays.next().unwrap_or(SETTLE)).await;
                continue;
            }
        };
        delays = Backoff::api();
        tracing::info!(
            kind = wanted.kind,
            version = resource.as_ref().map(|resource| &*resource.version),
            "watching what is served"
        );
        known.send_modify(|known| match resource.clone() {
            Some(resource) => drop(known.insert(wanted.kind, resource)),
            None => drop(known.remove(wanted.kind)),
        });
        let Some(resource) = resource else {
            for event in [Event::Init, Event::InitDone] {
                if tell(&heard, &wanted, event).await.is_err() {
                    return;
                }
            }
            changed(&client, &wanted, None, &mut touched).await;
            continue;
        };
        let mut outage = Outage::new(wanted.kind);
        let mut events =
            pin!(events(Api::<DynamicObject>::all_with(client.clone(), &resource), Default::default()));
        let mut changed = pin!(changed(&client, &wanted, Some(&resource), &mut touched));
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut changed => break,
            };
            let Some(event) = event else { return };
            let Some(event) = outage.look(event) else { continue };
            if tell(&heard, &wanted, event).await.is_err() {
                return;
            }
        }
    }
}

async fn tell(
    heard: &mpsc::Sender<Heard>,
    wanted: &Wanted,
    event: Event<DynamicObject>,
) -> Result<(), mpsc::error::SendError<Heard>> {
    let listed = matches!(event, Event::InitDone);
    let (change, note) = (wanted.change)(event);
    heard.send(Heard { kind: wanted.kind, listed, change, note }).await
}

/// Returns when something else is served than `now`.
async fn changed(
    client: &Client,
    wanted: &Wanted,
    now: Option<&ApiResource>,
    touched: &mut watch::Receiver<()>,
) {
    loop {
        let looks = match time::timeout(LOOK_AGAIN, touched.changed()).await {
            Ok(Ok(())) => LOOKS,
            // Nobody watches definitions any more: we are about to end too.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => 1,
        };
        for _ in 0..looks {
            if served(client, wanted).await.is_ok_and(|served| served.as_ref() != now) {
                return;
            }
            if looks > 1 {
                time::sleep(SETTLE).await;
            }
        }
    }
}

/// The best version that is served.
async fn served(client: &Client, wanted: &Wanted) -> kube::Result<Option<ApiResource>> {
    for version in wanted.versions {
        let kind = GroupVersionKind::gvk(wanted.group, version, wanted.kind);
        match discovery::pinned_kind(client, &kind).await {
            Ok((resource, _)) => return Ok(Some(resource)),
            // Of a group that nobody serves, the API server says so in plain text, without a reason to go by.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(kube::Error::Discovery(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

type Read = (Option<Change>, Note);

/// An object that cannot be read is named, and harms no other. `instead` makes what counts where it has never been read.
fn read<K: Resource + DeserializeOwned>(
    kind: &str,
    event: Event<DynamicObject>,
    change: fn(Event<K>) -> Change,
    unread: fn(Unread<K>) -> Change,
    instead: Option<fn(ObjectMeta, &Value) -> K>,
) -> Read {
    let (object, again, event): (DynamicObject, fn(K) -> Event<K>, UnreadEvent) = match event {
        Event::Init => return (Some(change(Event::Init)), Note::Anew),
        Event::InitDone => return (Some(change(Event::InitDone)), Note::Nothing),
        Event::Apply(object) => (object, Event::Apply, UnreadEvent::Changed),
        Event::InitApply(object) => (object, Event::InitApply, UnreadEvent::Listed),
        Event::Delete(object) => (object, Event::Delete, UnreadEvent::Deleted),
    };
    let (namespace, object_name) = (object.namespace().unwrap_or_default(), object.name_any());
    let name = format!("{kind} {namespace}/{object_name}");
    // A status is written only where it has not changed since.
    let resource_version = object.metadata.resource_version.clone();
    let metadata = ObjectMeta { resource_version, ..prune::labelled(object.metadata) };
    let DynamicObject { data, types, .. } = object;
    let kept = instead.map(|make| make(metadata.clone(), &data));
    match (DynamicObject { metadata, types, data }).try_parse() {
        Ok(object) => (Some(change(again(object))), Note::Readable(name)),
        Err(error) => {
            let refuses = kept.is_some();
            let unread = unread(Unread { event, namespace, name: object_name, instead: kept });
            let note = match event {
                UnreadEvent::Deleted => Note::Readable(name),
                UnreadEvent::Listed | UnreadEvent::Changed => Note::Unreadable(Diagnostic {
                    severity: Severity::Error,
                    path: String::new(),
                    document: 0,
                    line: 0,
                    object: name,
                    message: format!("cannot be read: {error}"),
                    remedy: match refuses {
                        true => {
                            "what it said before stays in force; if that is nothing, it lets in nobody".into()
                        }
                        false => "what it said before stays in force".into(),
                    },
                }),
            };
            (Some(unread), note)
        }
    }
}

/// Security fails closed: a policy that nobody can read is not one that is not there.
fn closed_policy(metadata: ObjectMeta, data: &Value) -> AuthorizationPolicy {
    let spec = authorization::closed(&data["spec"]);
    let status = serde_json::from_value(data["status"].clone()).ok();
    AuthorizationPolicy { metadata, spec, status }
}
