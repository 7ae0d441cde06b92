//! One reflector store per kind, fed by watch events: the same whether a cluster or a folder sends them.

use k8s_openapi::api::{
    core::v1::{Namespace, Node, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::runtime::{
    reflector::{Lookup, ObjectRef, Store, store::Writer},
    watcher::Event,
};
use mesh_policy::{
    List, Pod, PolicyStatus, RouteStatus, World,
    authorization::AuthorizationPolicy,
    gateway::{GRPCRoute, HTTPRoute},
};
use serde_json::Value;
use std::collections::HashSet;

/// One event of one kind's watch.
#[expect(clippy::large_enum_variant, reason = "they are read once, from a list")]
#[derive(Debug)]
pub enum Change {
    Namespace(Event<Namespace>),
    ServiceAccount(Event<ServiceAccount>),
    Service(Event<Service>),
    EndpointSlice(Event<EndpointSlice>),
    Pod(Event<Pod>),
    Node(Event<Node>),
    HttpRoute(Event<HTTPRoute>),
    GrpcRoute(Event<GRPCRoute>),
    AuthorizationPolicy(Event<AuthorizationPolicy>),
    UnreadHttpRoute(Unread<HTTPRoute>),
    UnreadGrpcRoute(Unread<GRPCRoute>),
    UnreadAuthorizationPolicy(Unread<AuthorizationPolicy>),
}

/// An event about an object that cannot be read. What it said before stays; where that is nothing, `instead` counts until it can be
/// read.
#[derive(Debug)]
pub struct Unread<K> {
    pub event: UnreadEvent,
    pub namespace: String,
    pub name: String,
    pub instead: Option<K>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadEvent {
    /// As one of all objects, which are told anew.
    Listed,
    Changed,
    Deleted,
}

#[derive(Debug, Default)]
pub struct Stores {
    namespaces: Kind<Namespace>,
    service_accounts: Kind<ServiceAccount>,
    services: Kind<Service>,
    endpoint_slices: Kind<EndpointSlice>,
    pods: Kind<Pod>,
    nodes: Kind<Node>,
    http_routes: Kind<HTTPRoute>,
    grpc_routes: Kind<GRPCRoute>,
    authorization_policies: Kind<AuthorizationPolicy>,
}

/// The store of one kind, and its objects as a list that stays the same until one of them changes.
#[derive(Debug)]
struct Kind<K: Lookup<DynamicType = ()> + Clone + 'static> {
    writer: Writer<K>,
    reader: Store<K>,
    list: Option<List<K>>,
    /// Objects that stand for ones that nobody has been able to read.
    stand_ins: HashSet<ObjectRef<K>>,
}

impl<K: Lookup<DynamicType = ()> + Clone + 'static> Default for Kind<K> {
    fn default() -> Self {
        let writer = Writer::new(());
        Kind { reader: writer.as_reader(), writer, list: None, stand_ins: HashSet::new() }
    }
}

impl<K: Lookup<DynamicType = ()> + Clone + PartialEq + 'static> Kind<K> {
    fn apply(&mut self, event: &Event<K>) {
        if let Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) = event {
            self.stand_ins.remove(&object.to_object_ref(()));
        }
        match event {
            // Most changes of a Pod are none in what is kept of it.
            Event::Apply(object) => {
                let known = self.reader.get(&object.to_object_ref(()));
                if known.is_some_and(|known| *known == *object) {
                    return;
                }
                self.list = None;
            }
            Event::Delete(_) | Event::InitDone => self.list = None,
            Event::Init | Event::InitApply(_) => {}
        }
        self.writer.apply_watcher_event(event);
    }

    fn keep(&mut self, unread: &Unread<K>) {
        let key = ObjectRef::new(&unread.name).within(&unread.namespace);
        let known = self.reader.get(&key);
        let said = known.clone().filter(|_| !self.stand_ins.contains(&key)).map(|known| K::clone(&known));
        let stands_in = said.is_none();
        match (unread.event, said.or_else(|| unread.instead.clone())) {
            (UnreadEvent::Deleted, _) => {
                known.into_iter().for_each(|known| self.apply(&Event::Delete(K::clone(&known))));
            }
            (_, None) => {}
            (UnreadEvent::Listed | UnreadEvent::Changed, Some(object)) => {
                match unread.event == UnreadEvent::Listed {
                    true => self.apply(&Event::InitApply(object)),
                    false => self.apply(&Event::Apply(object)),
                }
                if stands_in {
                    self.stand_ins.insert(key);
                }
            }
        }
    }

    fn list(&mut self) -> List<K> {
        self.list.get_or_insert_with(|| self.reader.state().into()).clone()
    }
}

/// What others may read of the stores. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readers {
    pub namespaces: Store<Namespace>,
    pub service_accounts: Store<ServiceAccount>,
    pub services: Store<Service>,
    pub endpoint_slices: Store<EndpointSlice>,
    pub pods: Store<Pod>,
    pub nodes: Store<Node>,
    pub http_routes: Store<HTTPRoute>,
    pub grpc_routes: Store<GRPCRoute>,
    pub authorization_policies: Store<AuthorizationPolicy>,
}

impl Readers {
    /// A snapshot.
    pub fn world(&self) -> World {
        World {
            namespaces: self.namespaces.state().into(),
            service_accounts: self.service_accounts.state().into(),
            services: self.services.state().into(),
            endpoint_slices: self.endpoint_slices.state().into(),
            pods: self.pods.state().into(),
            nodes: self.nodes.state().into(),
            http_routes: self.http_routes.state().into(),
            grpc_routes: self.grpc_routes.state().into(),
            authorization_policies: self.authorization_policies.state().into(),
            ..World::default()
        }
    }

    /// `status.parents` of the route that this verdict is about, and the version of the object that it stood in. `None` where the
    /// route has gone or is another generation by now.
    pub fn route_status(&self, verdict: &RouteStatus) -> Option<(Vec<Value>, String)> {
        let (namespace, name) = (&verdict.namespace, &verdict.name);
        let (metadata, status) = if verdict.kind == "HTTPRoute" {
            let route = self.http_routes.get(&ObjectRef::new(name).within(namespace))?;
            (route.metadata.clone(), route.status.clone())
        } else {
            let route = self.grpc_routes.get(&ObjectRef::new(name).within(namespace))?;
            (route.metadata.clone(), route.status.clone())
        };
        let same = metadata.generation.unwrap_or(0) == verdict.generation;
        same.then_some((status.unwrap_or_default().parents, metadata.resource_version?))
    }

    /// `status.conditions` of the policy that this verdict is about. `None` where it has gone or is another generation by now.
    pub fn policy_conditions(&self, verdict: &PolicyStatus) -> Option<Vec<Value>> {
        let reference = ObjectRef::new(&verdict.name).within(&verdict.namespace);
        let policy = self.authorization_policies.get(&reference)?;
        if policy.metadata.generation.unwrap_or(0) != verdict.generation {
            return None;
        }
        let conditions = policy.status.iter().flat_map(|status| &status.conditions);
        conditions.map(|condition| serde_json::to_value(condition).ok()).collect()
    }
}

impl Stores {
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Namespace(event) => self.namespaces.apply(event),
            Change::ServiceAccount(event) => self.service_accounts.apply(event),
            Change::Service(event) => self.services.apply(event),
            Change::EndpointSlice(event) => self.endpoint_slices.apply(event),
            Change::Pod(event) => self.pods.apply(event),
            Change::Node(event) => self.nodes.apply(event),
            Change::HttpRoute(event) => self.http_routes.apply(event),
            Change::GrpcRoute(event) => self.grpc_routes.apply(event),
            Change::AuthorizationPolicy(event) => self.authorization_policies.apply(event),
            Change::UnreadHttpRoute(unread) => self.http_routes.keep(unread),
            Change::UnreadGrpcRoute(unread) => self.grpc_routes.keep(unread),
            Change::UnreadAuthorizationPolicy(unread) => self.authorization_policies.keep(unread),
        }
    }

    pub fn readers(&self) -> Readers {
        Readers {
            namespaces: self.namespaces.reader.clone(),
            service_accounts: self.service_accounts.reader.clone(),
            services: self.services.reader.clone(),
            endpoint_slices: self.endpoint_slices.reader.clone(),
            pods: self.pods.reader.clone(),
            nodes: self.nodes.reader.clone(),
            http_routes: self.http_routes.reader.clone(),
            grpc_routes: self.grpc_routes.reader.clone(),
            authorization_policies: self.authorization_policies.reader.clone(),
        }
    }

    /// A snapshot. Lists of kinds that have not changed are those of the last one.
    pub fn world(&mut self) -> World {
        World {
            namespaces: self.namespaces.list(),
            service_accounts: self.service_accounts.list(),
            services: self.services.list(),
            endpoint_slices: self.endpoint_slices.list(),
            pods: self.pods.list(),
            nodes: self.nodes.list(),
            http_routes: self.http_routes.list(),
            grpc_routes: self.grpc_routes.list(),
            authorization_policies: self.authorization_policies.list(),
            ..World::default()
        }
    }
}
