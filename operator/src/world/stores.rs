//! One reflector store per kind, fed by watch events: the same whether a cluster or a folder sends them.

use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::runtime::{
    reflector::{ObjectRef, Store, store::Writer},
    watcher::Event,
};
use mesh_policy::{
    PolicyStatus, RouteStatus, World,
    authorization::AuthorizationPolicy,
    gateway::{GRPCRoute, HTTPRoute},
};
use serde_json::Value;

/// One event of one kind's watch.
#[expect(clippy::large_enum_variant, reason = "they are read once, from a list")]
#[derive(Debug)]
pub enum Change {
    Namespace(Event<Namespace>),
    ServiceAccount(Event<ServiceAccount>),
    Service(Event<Service>),
    EndpointSlice(Event<EndpointSlice>),
    Pod(Event<Pod>),
    HttpRoute(Event<HTTPRoute>),
    GrpcRoute(Event<GRPCRoute>),
    AuthorizationPolicy(Event<AuthorizationPolicy>),
}

#[derive(Debug)]
pub struct Stores {
    namespaces: Writer<Namespace>,
    service_accounts: Writer<ServiceAccount>,
    services: Writer<Service>,
    endpoint_slices: Writer<EndpointSlice>,
    pods: Writer<Pod>,
    http_routes: Writer<HTTPRoute>,
    grpc_routes: Writer<GRPCRoute>,
    authorization_policies: Writer<AuthorizationPolicy>,
}

/// What others may read of the stores. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readers {
    pub namespaces: Store<Namespace>,
    pub service_accounts: Store<ServiceAccount>,
    pub services: Store<Service>,
    pub endpoint_slices: Store<EndpointSlice>,
    pub pods: Store<Pod>,
    pub http_routes: Store<HTTPRoute>,
    pub grpc_routes: Store<GRPCRoute>,
    pub authorization_policies: Store<AuthorizationPolicy>,
}

impl Readers {
    /// A snapshot.
    pub fn world(&self) -> World {
        World {
            namespaces: self.namespaces.state(),
            service_accounts: self.service_accounts.state(),
            services: self.services.state(),
            endpoint_slices: self.endpoint_slices.state(),
            pods: self.pods.state(),
            http_routes: self.http_routes.state(),
            grpc_routes: self.grpc_routes.state(),
            authorization_policies: self.authorization_policies.state(),
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

impl Default for Stores {
    fn default() -> Self {
        Stores {
            namespaces: Writer::new(()),
            service_accounts: Writer::new(()),
            services: Writer::new(()),
            endpoint_slices: Writer::new(()),
            pods: Writer::new(()),
            http_routes: Writer::new(()),
            grpc_routes: Writer::new(()),
            authorization_policies: Writer::new(()),
        }
    }
}

impl Stores {
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Namespace(event) => self.namespaces.apply_watcher_event(event),
            Change::ServiceAccount(event) => self.service_accounts.apply_watcher_event(event),
            Change::Service(event) => self.services.apply_watcher_event(event),
            Change::EndpointSlice(event) => self.endpoint_slices.apply_watcher_event(event),
            Change::Pod(event) => self.pods.apply_watcher_event(event),
            Change::HttpRoute(event) => self.http_routes.apply_watcher_event(event),
            Change::GrpcRoute(event) => self.grpc_routes.apply_watcher_event(event),
            Change::AuthorizationPolicy(event) => self.authorization_policies.apply_watcher_event(event),
        }
    }

    pub fn readers(&self) -> Readers {
        Readers {
            namespaces: self.namespaces.as_reader(),
            service_accounts: self.service_accounts.as_reader(),
            services: self.services.as_reader(),
            endpoint_slices: self.endpoint_slices.as_reader(),
            pods: self.pods.as_reader(),
            http_routes: self.http_routes.as_reader(),
            grpc_routes: self.grpc_routes.as_reader(),
            authorization_policies: self.authorization_policies.as_reader(),
        }
    }

    /// A snapshot.
    pub fn world(&self) -> World {
        self.readers().world()
    }
}
