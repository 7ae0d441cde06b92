//! A story's own namespace: objects go in, and conditions are waited for by watching.

use super::inside::Inside;
use bytes::Bytes;
use http::Response;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Event, Namespace, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams},
    core::{GroupVersionKind, NamespaceResourceScope},
    discovery::{ApiCapabilities, ApiResource, Scope, oneshot},
    runtime::wait::await_condition,
};
use mesh_e2e::node::Node;
use mesh_tests::{client, wait};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug, net::SocketAddr, time::Duration};

/// For what should happen at once but takes a busy node its time: an image is there, a Pod starts, a probe passes. A kubelet
/// looks for an API server that was away for long only once a minute, and may have to look twice.
pub const SOON: Duration = Duration::from_secs(180);

const BY_STORIES: &str = "mesh-e2e";

pub struct Place {
    pub client: Client,
    pub node: Node,
    pub namespace: String,
}

impl Place {
    pub async fn new(name: &str, client: Client, node: Node) -> Place {
        let place = Place { client, node, namespace: name.to_owned() };
        let namespaces = place.all::<Namespace>();
        // Left by a run that was interrupted.
        if namespaces.get_opt(name).await.unwrap().is_some() {
            delete(&namespaces, name).await;
        }
        let namespace: Namespace =
            serde_json::from_value(serde_json::json!({ "metadata": { "name": name } })).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        // Without it no Pod is admitted.
        let accounts = place.api::<k8s_openapi::api::core::v1::ServiceAccount>();
        place.until("the default service account", accounts, "default", |account| account.is_some()).await;
        place
    }

    /// Changes annotations of this namespace.
    pub async fn annotate(&self, annotations: &serde_json::Value) {
        let patch = Patch::Merge(serde_json::json!({ "metadata": { "annotations": annotations } }));
        self.all::<Namespace>().patch(&self.namespace, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Objects of one kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of one kind anywhere.
    pub fn all<K: kube::Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Applies every document, into this namespace where it names none.
    pub async fn apply(&self, yaml: &str) {
        for document in yaml.split("\n---\n") {
            let mut object: DynamicObject =
                serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}"));
            let (resource, capabilities) = self.kind(&object).await;
            let api: Api<DynamicObject> = match capabilities.scope {
                Scope::Cluster => Api::all_with(self.client.clone(), &resource),
                Scope::Namespaced => {
                    let namespace = object.metadata.namespace.get_or_insert_with(|| self.namespace.clone());
                    Api::namespaced_with(self.client.clone(), namespace, &resource)
                }
            };
            let by_us = PatchParams::apply(BY_STORIES).force();
            let name = object.name_any();
            api.patch(&name, &by_us, &Patch::Apply(&object))
                .await
                .unwrap_or_else(|error| panic!("apply {} {name}: {error}", resource.kind));
        }
    }

    async fn kind(&self, object: &DynamicObject) -> (ApiResource, ApiCapabilities) {
        let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
        let what = format!("the API server to know {}", kind.kind);
        // Its definition may have been applied just now.
        wait::until(&what, wait::SOON, async || oneshot::pinned_kind(&self.client, &kind).await).await
    }

    /// Waits for a condition of one object by watching it.
    pub async fn until<K>(
        &self,
        what: &str,
        api: Api<K>,
        name: &str,
        condition: impl Fn(Option<&K>) -> bool,
    ) -> Option<K>
    where
        K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        match tokio::time::timeout(SOON, await_condition(api.clone(), name, condition)).await {
            Ok(Ok(object)) => object,
            Ok(Err(error)) => panic!("watch for {what} ({name}): {error}"),
            Err(_) => panic!("waited {SOON:?} for {what}: {name} is {:#?}", api.get_opt(name).await),
        }
    }

    /// Waits until all Pods of a Deployment serve, those of its newest template and no others.
    pub async fn rolled_out(&self, deployment: &str) {
        self.rolled_out_of(&self.api::<Deployment>(), deployment).await;
    }

    /// The same in another namespace.
    pub async fn rolled_out_of(&self, api: &Api<Deployment>, deployment: &str) {
        let what = "all of its Pods to serve";
        self.until(what, api.clone(), deployment, |deployment| {
            let Some(deployment) = deployment else { return false };
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let Some(status) = &deployment.status else { return false };
            status.observed_generation == deployment.metadata.generation
                && [status.replicas, status.updated_replicas, status.available_replicas]
                    .iter()
                    .all(|count| count.unwrap_or(0) == wanted)
        })
        .await;
    }

    /// Waits until a Pod is ready, and returns it.
    pub async fn running(&self, pod: &str) -> Pod {
        let ready = self.until("it to be ready", self.api::<Pod>(), pod, |pod| {
            let conditions =
                pod.and_then(|pod| pod.status.as_ref()?.conditions.as_deref()).unwrap_or_default();
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
        ready.await.unwrap()
    }

    /// Waits until an app has so many Pods that are to stay, and Kubernetes tells of them all as ready endpoints of its Service, and of
    /// no others.
    pub async fn serves(&self, app: &str, count: usize) {
        let slices = self.api::<EndpointSlice>();
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={app}"));
        wait::until("its EndpointSlices to tell of all of its Pods", SOON, async || {
            let pods = self.pods(&format!("app={app}")).await;
            let pods: BTreeSet<String> = pods.iter().map(ResourceExt::name_any).collect();
            let slices = slices.list(&of_service).await.unwrap().items;
            let ready = slices.into_iter().flat_map(|slice| slice.endpoints).filter(|endpoint| {
                endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true))
            });
            let told: BTreeSet<String> = ready.filter_map(|endpoint| endpoint.target_ref?.name).collect();
            if told == pods && pods.len() == count { Ok(()) } else { Err(format!("{told:?} of {pods:?}")) }
        })
        .await;
    }

    /// Starts all Pods of a Deployment anew, as `kubectl rollout restart` does, and waits until they serve.
    pub async fn restart(&self, deployment: &str) {
        self.api::<Deployment>().restart(deployment).await.unwrap();
        self.rolled_out(deployment).await;
    }

    pub async fn scale(&self, deployment: &str, replicas: u32) {
        let patch = Patch::Merge(serde_json::json!({ "spec": { "replicas": replicas } }));
        self.api::<Deployment>().patch_scale(deployment, &PatchParams::default(), &patch).await.unwrap();
        self.rolled_out(deployment).await;
    }

    pub async fn gone<K>(&self, name: &str)
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        self.until("it to be gone", self.api::<K>(), name, |object| object.is_none()).await;
    }

    pub async fn completed(&self, job: &str) {
        self.until("it to complete", self.api::<Job>(), job, |job| {
            let status = job.and_then(|job| job.status.as_ref());
            status.is_some_and(|status| status.succeeded.unwrap_or(0) > 0)
        })
        .await;
    }

    /// Pods with these labels that are not on their way out.
    pub async fn pods(&self, selector: &str) -> Vec<Pod> {
        let mut pods = self.api::<Pod>().list(&ListParams::default().labels(selector)).await.unwrap().items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods
    }

    /// Where a Service is reached from within the cluster.
    pub async fn service(&self, name: &str, port: u16) -> SocketAddr {
        let service = self.api::<Service>().get(name).await.unwrap();
        let ip = service.spec.unwrap().cluster_ip.unwrap();
        SocketAddr::new(ip.parse().unwrap(), port)
    }

    /// Does something while the API server is away, and waits until it is back. Kubernetes' controllers, scheduler and proxy are away
    /// with it: they would look for it again for each kind of object at another moment, some a minute late, and a Deployment would be
    /// rolled on while its EndpointSlices are not written. Who starts anew lists everything first; the rules of a kube-proxy stay.
    pub async fn without_api_server<T>(&self, meanwhile: impl Future<Output = T>) -> T {
        let followers = ["kube-controller-manager", "kube-scheduler", "kube-proxy"];
        let followers = followers.map(|name| self.node.hold(name).unwrap());
        let held = self.node.hold("kube-apiserver").unwrap();
        let ready =
            || async { self.client.request_text(http::Request::get("/readyz").body(vec![]).unwrap()).await };
        wait::until("the API server to be away", SOON, async || match ready().await {
            Ok(_) => Err("it answers"),
            Err(_) => Ok(()),
        })
        .await;
        let done = meanwhile.await;
        drop(held);
        // Not before its own roles are there: followers who may not do their work yet wait as long as if it were away.
        wait::until("the API server to be ready again", SOON, ready).await;
        drop(followers);
        done
    }

    /// What somebody without a proxy is answered. kube-proxy may not have heard yet that a Service has endpoints.
    pub async fn told_outside(&self, to: SocketAddr, path: &str) -> Response<Bytes> {
        let ask = async || client::get(to, path).await.map_err(|error| format!("{error:#}"));
        wait::until("an answer", SOON, ask).await
    }

    /// A thread in the network of a Pod, which sends as its application does.
    pub async fn inside(&self, pod: &Pod) -> Inside {
        Inside::of(&self.node, pod)
    }

    pub async fn log(&self, pod: &str, container: &str) -> String {
        let params =
            LogParams { container: Some(container.to_owned()), tail_lines: Some(40), ..Default::default() };
        match self.api::<Pod>().logs(pod, &params).await {
            Ok(log) => log,
            Err(error) => error.to_string(),
        }
    }

    /// What is to be known of a story that failed.
    pub async fn print(&self) {
        let Ok(pods) = self.api::<Pod>().list(&ListParams::default()).await else { return };
        for pod in pods {
            let status = pod.status.clone().unwrap_or_default();
            println!("---- pod {} {}", pod.name_any(), status.phase.unwrap_or_default());
            let [init, own] =
                [status.init_container_statuses, status.container_statuses].map(Option::unwrap_or_default);
            for container in init.iter().chain(&own) {
                let (state, name) = (container.state.as_ref(), &container.name);
                println!("-- {name}: ready {}, {}", container.ready, serde_json::json!(state));
                println!("{}", self.log(&pod.name_any(), name).await);
            }
        }
        println!("---- events");
        let Ok(events) = self.api::<Event>().list(&ListParams::default()).await else { return };
        for event in events {
            let of = event.involved_object.name.unwrap_or_default();
            println!("{of}: {} {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default());
        }
    }

    /// Nobody waits for it to be gone.
    pub async fn leave(self) {
        let at_once = DeleteParams::default().grace_period(0);
        let _ = self.all::<Namespace>().delete(&self.namespace, &at_once).await;
    }
}

/// Deletes and waits until it is gone.
async fn delete<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let _ = api.delete(name, &DeleteParams::default().grace_period(0)).await;
    let gone = await_condition(api.clone(), name, |object: Option<&K>| object.is_none());
    let waited = tokio::time::timeout(SOON, gone).await;
    assert!(waited.is_ok(), "waited {SOON:?} for {name} to be gone");
}
