//! One reflector store per kind, fed by watch events: the same whether a cluster or a folder sends them.

use super::slices;
use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
};
use kube::runtime::{reflector::store::Writer, watcher::Event};
use mesh_policy::{
    Settings, World,
    authorization::AuthorizationPolicy,
    gateway::{GRPCRoute, HTTPRoute},
};
use std::sync::Arc;

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

    /// A snapshot. What a cluster's controllers and our injector would add to the objects is added here: Pods are marked as
    /// meshed, and Services with a selector get the EndpointSlices they lack.
    pub fn world(&self, settings: &Settings) -> World {
        let mut world = World {
            namespaces: self.namespaces.as_reader().state(),
            service_accounts: self.service_accounts.as_reader().state(),
            services: self.services.as_reader().state(),
            endpoint_slices: self.endpoint_slices.as_reader().state(),
            pods: self.pods.as_reader().state(),
            http_routes: self.http_routes.as_reader().state(),
            grpc_routes: self.grpc_routes.as_reader().state(),
            authorization_policies: self.authorization_policies.as_reader().state(),
            ..World::default()
        };
        world.pods = slices::mark_meshed(world.pods, &world.namespaces, &settings.control_namespace);
        let made = slices::synthesize(&world.services, &world.pods, &world.endpoint_slices);
        world.endpoint_slices.extend(made.into_iter().map(Arc::new));
        world
    }
}
