//! A world from watches, against a scripted API server: how it begins, what outages do to it, kinds that come and go.

use super::*;
use crate::cluster::reconcile::Terms;
use crate::{
    cluster::{
        testing::ApiServer,
        troubles::{Troubles, trouble},
    },
    world::{self, Source, stores::Stores},
};
use mesh_policy::{
    Settings, Tables, World,
    inbound::{Client, Decision},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time};

const NAMESPACES: &str = "/api/v1/namespaces";
const PODS: &str = "/api/v1/pods";
const NODES: &str = "/api/v1/nodes";
const CORE: [&str; 7] = [
    NAMESPACES,
    NODES,
    "/api/v1/serviceaccounts",
    "/api/v1/services",
    "/apis/discovery.k8s.io/v1/endpointslices",
    PODS,
    DEFINITIONS,
];
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/httproutes";
const POLICIES: &str = "/apis/mesh.dev/v1alpha1/authorizationpolicies";

/// An operator's world, as it follows an API server.
struct Following {
    server: ApiServer,
    tables: watch::Receiver<Arc<Tables>>,
    troubles: Troubles,
    _tasks: JoinSet<()>,
}

impl Following {
    fn start(server: ApiServer) -> Following {
        let (sent, batches) = mpsc::channel(8);
        let settings = Settings::default();
        let (publish, tables) = watch::channel(Arc::new(Tables::build(&World::default(), &settings)));
        let mut tasks = JoinSet::new();
        let (served, _) = watch::channel(served::Served::new());
        let troubles = Troubles::default();
        tasks.spawn(run(server.client(), "mesh".into(), served, troubles.watch(), sent));
        let terms = Terms { control_namespace: "mesh".into(), restarts: true };
        tasks.spawn(world::run(Stores::default(), batches, settings, Source::Cluster(terms), publish));
        Following { server, tables, troubles, _tasks: tasks }
    }

    /// Waits until the tables are so.
    async fn until(&mut self, wanted: impl Fn(&Tables) -> bool) {
        let found = self.tables.wait_for(|tables| wanted(tables));
        time::timeout(Duration::from_secs(60), found).await.expect("in time").unwrap();
    }
}

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"podIP": ip},
    })
}

fn route(spec: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": "cart", "namespace": "shop", "generation": 1}, "spec": spec,
    })
}

fn names(tables: &Tables) -> Vec<&str> {
    tables.pods().iter().map(|pod| pod.name.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn there_is_no_world_before_everything_is_listed() {
    let server = ApiServer::new(&CORE[..6]);
    server.put(PODS, pod("a", "10.0.0.1"));
    server.away(Some(503));
    let mut following = Following::start(server.clone());
    time::sleep(Duration::from_secs(60)).await;
    assert!(!following.tables.has_changed().unwrap(), "nobody has answered");
    server.away(None);
    following.until(|tables| names(tables) == ["a"]).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_keeps_what_was_known_and_ends_within_seconds() {
    let mut following = Following::start(ApiServer::new(&CORE));
    let server = following.server.clone();
    server.put(PODS, pod("a", "10.0.0.1"));
    following.until(|tables| names(tables) == ["a"]).await;
    server.away(Some(500));
    time::sleep(Duration::from_secs(60)).await;
    assert_eq!(names(&following.tables.borrow()), ["a"]);
    server.put(PODS, pod("b", "10.0.0.2"));
    // What happened meanwhile cannot be told any more: everything is listed again.
    server.away(None);
    let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired", "message": "too old"}});
    let healed = time::Instant::now();
    while names(&following.tables.borrow()) != ["a", "b"] {
        server.tell(PODS, gone.clone());
        time::sleep(Duration::from_millis(100)).await;
        assert!(healed.elapsed() < Duration::from_secs(5), "no new list");
    }
    server.delete(PODS, "shop/a");
    following.until(|tables| names(tables) == ["b"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_is_read_for_its_zone() {
    let mut following = Following::start(ApiServer::new(&CORE));
    for zone in ["a", "b"] {
        let metadata = json!({"name": "n1", "labels": {"topology.kubernetes.io/zone": zone}});
        following.server.put(NODES, json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata}));
        following.until(|tables| tables.zone("n1") == Some(zone)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn kinds_may_come_and_go() {
    let mut following = Following::start(ApiServer::new(&CORE));
    let server = following.server.clone();
    following.until(|_| true).await;
    let parent = json!({"parentRefs": [{"group": "", "kind": "Service", "name": "cart"}]});
    server.put(ROUTES, route(parent));
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "httproutes.gateway.networking.k8s.io"}});
    server.put(DEFINITIONS, definition);
    let told = time::Instant::now();
    following.until(|tables| tables.route_statuses().len() == 1).await;
    assert!(told.elapsed() < Duration::from_secs(2), "its definition has been seen");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_is_named_and_harms_no_other() {
    let server = ApiServer::new(&[&CORE[..], &[ROUTES, POLICIES]].concat());
    server.put(ROUTES, route(json!({"parentRefs": [{"group": "", "kind": "Service", "name": "cart"}]})));
    let mut following = Following::start(server.clone());
    following.until(|tables| tables.route_statuses().len() == 1).await;
    server.put(ROUTES, route(json!({"rules": 7})));
    let named =
        |tables: &Tables| tables.diagnostics().iter().any(|found| found.message.contains("cannot be read"));
    following.until(named).await;
    assert_eq!(following.tables.borrow().route_statuses()[0].parents.len(), 1, "what it said before");
    server.put(ROUTES, route(json!({"parentRefs": []})));
    following.until(|tables| !named(tables)).await;
}

/// A cluster with one Pod, and a policy that is aimed at it.
struct Aimed(Following);

impl Aimed {
    fn policy(spec: Value) -> Value {
        json!({
            "apiVersion": "mesh.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "cart", "namespace": "shop", "generation": 1}, "spec": spec,
        })
    }

    fn start(spec: Value) -> Aimed {
        let server = ApiServer::new(&[&CORE[..], &[POLICIES]].concat());
        server.put(PODS, pod("cart", "10.0.0.1"));
        server.put(POLICIES, Aimed::policy(spec));
        Aimed(Following::start(server))
    }

    /// Waits until somebody without a certificate is let in, or is not.
    async fn until(&mut self, lets_in: bool) {
        let stranger = Client { ip: None, identity: None };
        let is_so = |tables: &Tables| {
            let Some(policy) = tables.inbound("shop", "cart", 80) else { return false };
            matches!(policy.decide(stranger, None), Decision::Allowed(_)) == lets_in
        };
        self.0.until(is_so).await;
    }

    fn says(&self, spec: Value) {
        self.0.server.put(POLICIES, Aimed::policy(spec));
    }

    /// Everything is listed again, as after a long outage.
    async fn list_again(&mut self) {
        let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired", "message": "too old"}});
        self.0.server.put(PODS, pod("news", "10.0.0.2"));
        self.0.server.tell(POLICIES, gone);
        self.0.until(|tables| names(tables).contains(&"news")).await;
        time::sleep(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_was_never_read_lets_in_nobody_until_it_can_be() {
    let mut aimed = Aimed::start(json!({"selector": {}, "rules": [{"unless": "x"}]}));
    aimed.until(false).await;
    let tables = aimed.0.tables.borrow().clone();
    let status = &tables.policy_statuses()[0].conditions[0];
    assert!(!status.status && status.message.contains("cannot be read"), "{status:?}");
    aimed.list_again().await;
    aimed.until(false).await;
    aimed.says(json!({"selector": {"matchLabels": {"app": "other"}}, "rules": 7}));
    aimed.until(true).await;
    aimed.says(json!({"selector": {}, "rules": [{"from": [{"network": {"cidr": "0.0.0.0/0"}}, {"network": {"cidr": "::/0"}}]}]}));
    aimed.until(true).await;
    aimed.0.until(|tables| tables.diagnostics().is_empty()).await;
    aimed.says(json!({"selector": {}, "rules": []}));
    aimed.until(false).await;
    aimed.says(json!(7));
    aimed.0.server.delete(POLICIES, "shop/cart");
    aimed.until(true).await;
    aimed.0.until(|tables| tables.diagnostics().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_policy_said_before_outlives_a_new_list() {
    let mut aimed = Aimed::start(json!({"selector": {}, "ports": [80], "rules": []}));
    aimed.until(false).await;
    aimed.says(json!({"selector": {"matchLabels": {"app": "other"}}, "rules": 7}));
    aimed.0.until(|tables| !tables.diagnostics().is_empty()).await;
    aimed.until(false).await;
    aimed.list_again().await;
    aimed.until(false).await;
    assert!(!aimed.0.tables.borrow().diagnostics().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_the_operator_lacks_is_told_beside_what_the_configuration_does() {
    let mut following = Following::start(ApiServer::new(&CORE));
    following.until(|_| true).await;
    let gone = trouble("Secret mesh/mesh-identity".into(), "is not there".into(), String::new());
    following.troubles.set("identity", vec![gone.clone()]);
    following.until(|tables| tables.diagnostics() == [gone.clone()]).await;
    following.troubles.set("identity", vec![]);
    following.until(|tables| tables.diagnostics().is_empty()).await;
}
