//! What exactly one replica does for all: it writes. Rounds follow changes, a burst of them makes one round, and what failed is
//! tried again in the next.

mod restarting;

use super::{
    bundle::{self, Bundle},
    events::Saying,
    leader,
    maps::Maps,
    mirror,
    reconcile::{self, restarts::Restarts},
    secret,
    served::Served,
    settled::Settled,
    status,
    troubles::{Troubles, trouble},
    writes::{self, Write, write},
};
use crate::{
    ca::{
        Authority,
        rotation::{self, Phase, Scene},
    },
    grpc::Told,
    telemetry,
    world::stores::Readers,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::{
    ClusterResourceScope,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::{ConfigMap, Namespace, ObjectReference, Pod},
        rbac::v1::ClusterRole,
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use mesh_api::names;
use mesh_policy::{PolicyStatus, Tables};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fmt::Debug,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

/// A burst of changes is waited out.
const PAUSE: Duration = Duration::from_millis(100);
/// Without any change, everything is looked at this often: somebody may have undone what we wrote.
const AGAIN: Duration = Duration::from_secs(30);
/// One question to the API server.
const TIMEOUT: Duration = Duration::from_secs(10);
/// While proxies have yet to take what a route says, they are looked at this often.
const LOOK_AT_ROUTES: Duration = Duration::from_millis(50);
/// The issuer is renewed two months before its end.
const LOOK_AT_ISSUER: Duration = Duration::from_secs(3600);
/// Events live for an hour.
const SAY_AGAIN: Duration = Duration::from_secs(3600);
/// One that was not written is tried again after this long, so that it keeps no other waiting.
const SAY_AFTER_ALL: Duration = Duration::from_secs(60);
/// Events of one round; the rest follows in the next ones.
const SAYINGS: usize = 20;
/// While the root is changed, proxies are looked at this often.
const LOOK_AT_PROXIES: Duration = Duration::from_secs(2);

pub struct Duties {
    pub client: Client,
    /// Where we run, and as which Pod.
    pub namespace: String,
    pub me: String,
    pub store: secret::Store,
    pub readers: Readers,
    pub maps: Maps,
    pub terms: reconcile::Terms,
    pub served: watch::Receiver<Served>,
    pub troubles: Troubles,
    pub tables: watch::Receiver<Arc<Tables>>,
    pub authority: watch::Receiver<Arc<Authority>>,
    pub telemetry: Arc<telemetry::Store>,
    pub told: Told,
    /// Whether this replica is the one.
    pub holding: watch::Receiver<bool>,
}

impl Duties {
    pub async fn run(mut self) {
        let mut maps_changed = self.maps.changed();
        let mut settled = Settled::default();
        let mut restarts = Restarts::default();
        let mut said = HashMap::new();
        let reporter = Reporter { controller: names::OPERATOR.into(), instance: Some(self.me.clone()) };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let mut looked: Option<Instant> = None;
        let mut trusted: Option<(Arc<Authority>, Instant)> = None;
        let mut owner = Owner::default();
        let mut waited_for = vec![];
        let mut unchanged = (self.authority.borrow().clone(), Instant::now());
        loop {
            if !*self.holding.borrow() {
                // Who leads then says what there is to say.
                restarts = Restarts::default();
                self.say_what_holds_restarts(&restarts);
            }
            if self.holding.wait_for(|holding| *holding).await.is_err() {
                return;
            }
            let seen = self.tables.borrow_and_update().clone();
            let authority = self.authority.borrow_and_update().clone();
            maps_changed.borrow_and_update();
            let touched = self.store.touched();
            // Before any Pod is made anew: without, nobody would ask us for its proxy.
            // Nothing tells us when somebody else has changed these.
            if trusted.as_ref().is_none_or(|(by, at)| *by != authority || at.elapsed() >= AGAIN) {
                let told = self.trust_webhooks(&authority).await;
                trusted = told.then(|| (authority.clone(), Instant::now()));
            }
            self.lead().await;
            self.mirror().await;
            owner.look(&self.client).await;
            let without = self.bundle(&owner).await;
            self.routes(&mut settled).await;
            self.policies().await;
            let mut sayings = self.reconcile(&mut restarts, trusted.is_some()).await;
            sayings.extend(self.restore().await);
            self.tell(&recorder, &mut said, sayings).await;
            if *unchanged.0 != *authority {
                unchanged = (authority.clone(), Instant::now());
            }
            let spread = self.is_spread(&authority, without, &mut waited_for);
            let scene = Scene { published: spread && trusted.is_some(), unchanged: unchanged.1.elapsed() };
            self.rotate(&authority, scene).await;
            if !*self.holding.borrow() {
                continue;
            }
            if looked.is_none_or(|at| at.elapsed() >= LOOK_AT_ISSUER) {
                looked = Some(Instant::now());
                if let Err(error) = self.store.renew(SystemTime::now()).await {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the issuer was not renewed; trying again in an hour"
                    );
                }
            }
            tokio::select! {
                changed = change(&mut self.tables, &seen) => if changed.is_err() { return },
                changed = self.authority.changed() => if changed.is_err() { return },
                _ = maps_changed.changed() => {}
                () = touched => {}
                _ = self.holding.changed() => {}
                () = time::sleep(pause(&settled, &authority, &restarts)) => {}
            }
            time::sleep(PAUSE).await;
        }
    }

    async fn lead(&self) {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        self.label(&api, leader::plan(&self.readers.pods.state(), &self.namespace, &self.me)).await;
    }

    /// Takes the next step of the change to a new root, when everybody is ready for it.
    async fn rotate(&self, authority: &Authority, scene: Scene) {
        let phase = authority.phase();
        if !phase.is_under_way() || !*self.holding.borrow() {
            return;
        }
        let reports =
            rotation::reports(&self.tables.borrow(), &self.telemetry.proxies(), telemetry::now_ms());
        let Some(step) = rotation::step(phase, authority.wanted(), scene, &reports) else { return };
        match time::timeout(TIMEOUT, self.store.rotate(phase, step, SystemTime::now())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(?step, error = format!("{error:#}"), "the root was not changed; trying again")
            }
            Err(_) => tracing::warn!(?step, "the root was not changed in time; trying again"),
        }
    }

    /// Whether everybody has been told of the trust anchors. Who has not holds up the change to a new root, and is named once.
    fn is_spread(
        &self,
        authority: &Authority,
        without: Option<Vec<String>>,
        waited_for: &mut Vec<String>,
    ) -> bool {
        let Some(mut without) = without else { return false };
        without.sort();
        let lacking = without.iter().map(|namespace| {
            let object = format!("ConfigMap {namespace}/{}", names::TRUST_ANCHORS_CONFIG_MAP);
            let message = "was not written: Pods there cannot follow a change to a new root, which waits";
            trouble(object, message.into(), "the operator's log says what keeps it from being written".into())
        });
        self.troubles.set("trust anchors", lacking.collect());
        let spread = without.is_empty();
        without.retain(|_| authority.phase().is_under_way());
        if *waited_for != without && !without.is_empty() {
            let namespaces = without.join(", ");
            tracing::warn!(
                namespaces,
                "the change to a new root waits: these have not got its trust anchors"
            );
        }
        *waited_for = without;
        spread
    }

    /// Writes root and issuer back where somebody has deleted them: without them, the next operator that starts makes others.
    async fn restore(&self) -> Option<Saying> {
        match time::timeout(TIMEOUT, self.store.restore()).await {
            Ok(Ok(restored)) => restored.then(|| Saying::restored(&self.namespace, self.store.name())),
            Ok(Err(error)) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "root and issuer are not kept anywhere; trying again"
                );
                None
            }
            Err(_) => {
                tracing::error!("root and issuer were not written back in time; trying again");
                None
            }
        }
    }

    async fn mirror(&self) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        self.label(&api, mirror::plan(&self.readers.namespaces.state())).await;
    }

    /// Carries out merge patches of metadata, by name.
    async fn label<K>(&self, api: &Api<K>, plan: Vec<(String, Value)>)
    where
        K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + 'static,
    {
        let writes = plan.into_iter().map(|(name, patch)| {
            let api = api.clone();
            write(format!("labels of {} {name}", K::kind(&())), async move {
                api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
            })
        });
        self.all(writes.collect()).await;
    }

    /// Whether all of them were done.
    async fn all(&self, writes: Vec<Write>) -> bool {
        let writes = writes.into_iter().map(|write| ((), write)).collect();
        writes::together(&self.holding, writes).await.is_empty()
    }

    /// Publishes what was not said lately, some at a time. `said` holds until when each is not said again.
    async fn tell(&self, recorder: &Recorder, said: &mut HashMap<Saying, Instant>, sayings: Vec<Saying>) {
        said.retain(|_, until| Instant::now() < *until);
        let new: Vec<Saying> =
            sayings.into_iter().filter(|own| !said.contains_key(own)).take(SAYINGS).collect();
        let mut writes = vec![];
        for saying in &new {
            let saying = saying.clone();
            let Some((api_version, plural)) = saying.resource() else { continue };
            let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
            let resource = ApiResource {
                group: group.into(),
                version: version.into(),
                api_version: api_version.into(),
                kind: saying.kind.clone(),
                plural: plural.into(),
            };
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &saying.namespace, &resource);
            let recorder = recorder.clone();
            let object = format!("event of {} {}/{}", saying.kind, saying.namespace, saying.name);
            writes.push((
                saying.clone(),
                write(object, async move {
                    // `kubectl describe` finds an event by the UID.
                    let uid = api.get_metadata(&saying.name).await?.metadata.uid;
                    let event = Event {
                        type_: if saying.warning { EventType::Warning } else { EventType::Normal },
                        reason: saying.reason.into(),
                        note: Some(saying.note),
                        action: "Inject".into(),
                        secondary: None,
                    };
                    let about = ObjectReference {
                        api_version: Some(api_version.into()),
                        kind: Some(saying.kind),
                        namespace: Some(saying.namespace),
                        name: Some(saying.name),
                        uid,
                        ..ObjectReference::default()
                    };
                    recorder.publish(&event, &about).await
                }),
            ));
        }
        let now = Instant::now();
        said.extend(new.into_iter().map(|saying| (saying, now + SAY_AGAIN)));
        let unsaid = writes::together(&self.holding, writes).await;
        said.extend(unsaid.into_iter().map(|saying| (saying, now + SAY_AFTER_ALL)));
    }

    /// Whether the API server knows our webhooks by this authority now.
    async fn trust_webhooks(&self, authority: &Authority) -> bool {
        let anchors = authority.trust_anchors_pem();
        let name = names::OPERATOR;
        let mutating = trust::<MutatingWebhookConfiguration>(self.client.clone(), anchors.to_owned());
        let validating = trust::<ValidatingWebhookConfiguration>(self.client.clone(), anchors.to_owned());
        self.all(vec![
            write(format!("MutatingWebhookConfiguration {name}"), mutating),
            write(format!("ValidatingWebhookConfiguration {name}"), validating),
        ])
        .await
    }

    /// The Namespaces that should have the bundle, had it not, and could not be given it. `None` while nobody knows who has it.
    async fn bundle(&self, owner: &Owner) -> Option<Vec<String>> {
        let kept = self.maps.kept()?;
        let anchors = self.authority.borrow().trust_anchors_pem().to_owned();
        let bundle = Bundle { anchors, owner: owner.uid.clone() };
        let wanted = bundle::namespaces(&self.readers.namespaces.state(), &self.readers.pods.state());
        let writes = bundle::plan(&wanted, &kept, &bundle).into_iter().map(|namespace| {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
            let content = bundle.config_map();
            let written =
                write(format!("ConfigMap {namespace}/{}", names::TRUST_ANCHORS_CONFIG_MAP), async move {
                    let ours = PatchParams::apply(names::OPERATOR).force();
                    api.patch(names::TRUST_ANCHORS_CONFIG_MAP, &ours, &Patch::Apply(&content)).await.map(drop)
                });
            (namespace.to_owned(), written)
        });
        Some(writes::together(&self.holding, writes.collect()).await)
    }

    /// Says in the status of routes what became of them.
    async fn routes(&self, settled: &mut Settled) {
        let tables = self.tables.borrow().clone();
        let statuses = tables.route_statuses();
        settled.begin(&statuses);
        // After the tables were read: it speaks of these or newer ones.
        let told = self.told.is_everybody();
        let mut writes = vec![];
        for wanted in &statuses {
            let Some((written, version)) = self.readers.route_status(wanted) else { continue };
            let Some(parents) = status::parents(&written, wanted, Timestamp::now()) else { continue };
            if !settled.is_settled(wanted, told, Instant::now()) {
                continue;
            }
            let Some(resource) = self.served.borrow().get(wanted.kind).cloned() else { continue };
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &wanted.namespace, &resource);
            // Somebody else's entries must not be lost: the write fails where they have changed since we read them.
            let patch = json!({"metadata": {"resourceVersion": version}, "status": {"parents": parents}});
            let object = format!("status of {} {}/{}", wanted.kind, wanted.namespace, wanted.name);
            let name = wanted.name.clone();
            writes.push(write(object, async move {
                api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
            }));
        }
        self.all(writes).await;
    }

    /// Says in the status of AuthorizationPolicies whether they are in force.
    async fn policies(&self) {
        let tables = self.tables.borrow().clone();
        let Some(resource) = self.served.borrow().get("AuthorizationPolicy").cloned() else { return };
        let mut writes = vec![];
        for wanted in &tables.policy_statuses() {
            let Some(written) = self.readers.policy_conditions(wanted) else { continue };
            let Some(conditions) = status::conditions(&written, wanted, Timestamp::now()) else { continue };
            let PolicyStatus { namespace, name, .. } = wanted.clone();
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, &resource);
            let patch = json!({
                "apiVersion": resource.api_version,
                "kind": resource.kind,
                "metadata": {"name": name},
                "status": {"conditions": conditions},
            });
            let object = format!("status of AuthorizationPolicy {namespace}/{name}");
            writes.push(write(object, async move {
                let ours = PatchParams::apply(names::OPERATOR).force();
                api.patch_status(&name, &ours, &Patch::Apply(&patch)).await.map(drop)
            }));
        }
        self.all(writes).await;
    }
}

/// Tells the API server by which authority to know our webhooks, where it knows another or none.
async fn trust<K>(client: Client, anchors: String) -> kube::Result<()>
where
    K: kube::Resource<DynamicType = (), Scope = ClusterResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug,
{
    let api: Api<K> = Api::all(client);
    let bundle = STANDARD.encode(anchors);
    let kept = serde_json::to_value(api.get(names::OPERATOR).await?).map_err(kube::Error::SerdeError)?;
    let webhooks = kept["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
    if webhooks.iter().all(|webhook| webhook["clientConfig"]["caBundle"] == bundle) {
        return Ok(());
    }
    let trusted =
        webhooks.iter().map(|webhook| json!({"name": webhook["name"], "clientConfig": {"caBundle": bundle}}));
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": names::OPERATOR},
        "webhooks": trusted.collect::<Vec<_>>(),
    });
    let ours = PatchParams::apply(names::OPERATOR).force();
    api.patch(names::OPERATOR, &ours, &Patch::Apply(&patch)).await.map(drop)
}

/// Returns when something has changed that a round looks at: endpoints come and go all the time.
async fn change(
    tables: &mut watch::Receiver<Arc<Tables>>,
    seen: &Tables,
) -> Result<(), watch::error::RecvError> {
    loop {
        tables.changed().await?;
        let now = tables.borrow_and_update();
        if !now.differs_in_endpoints_only(seen) || now.unmeshed() != seen.unmeshed() {
            return Ok(());
        }
    }
}

/// How long without any change until the next round.
fn pause(settled: &Settled, authority: &Authority, restarts: &Restarts) -> Duration {
    match authority.phase() {
        _ if settled.is_waiting => LOOK_AT_ROUTES,
        Phase::Asked | Phase::Spreading | Phase::Renewing => LOOK_AT_PROXIES,
        Phase::Idle | Phase::Refused(_) => restarts.pause(Instant::now()).unwrap_or(AGAIN),
    }
}

/// What everything of ours in other namespaces belongs to, so that it goes with the mesh: the operator's ClusterRole.
#[derive(Default)]
struct Owner {
    uid: Option<String>,
    looked: Option<Instant>,
}

impl Owner {
    /// A definition that was deleted and made again is another one.
    async fn look(&mut self, client: &Client) {
        if self.looked.is_some_and(|at| at.elapsed() < AGAIN) {
            return;
        }
        let api: Api<ClusterRole> = Api::all(client.clone());
        match time::timeout(TIMEOUT, api.get_metadata_opt(names::OPERATOR)).await {
            Ok(Ok(role)) => {
                self.uid = role.and_then(|role| role.metadata.uid);
                self.looked = Some(Instant::now());
            }
            Ok(Err(error)) => tracing::warn!(%error, "the ClusterRole that owns what we write was not read"),
            Err(_) => tracing::warn!("the ClusterRole that owns what we write was not read in time"),
        }
    }
}

#[cfg(test)]
mod tests;
