//! The world, indexed: immutable, shared as an `Arc`. Every answer is computed from it on demand.

mod shown;
mod unchanged;

use crate::{
    Authority, Diagnostic, Endpoint, EndpointSet, Meta, Place, PodInfo, PortProtocol, Reach, Service,
    ServiceKind, ServicePort, Settings, World,
    authorization::AuthorizationPolicy,
    diagnostic,
    endpoints::{self, Whose},
    gateway::ParentRef,
    inbound,
    outbound::{self, Backend, Forward, Match, Routes, ServicePolicy, Target, Timeouts},
    pods,
    reach::{self, ZONE},
    routes, services,
};
use k8s_openapi::api::{core::v1::Node, discovery::v1 as discovery};
use mesh_api::route::{Condition, Route};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Immutable. Two builds from the same world are equal in every answer, whatever was built before.
///
/// Each part is a pure function of some lists of the world, and is shared with the tables before where these lists are the same.
#[derive(Debug)]
pub struct Tables {
    settings: Settings,
    world: World,
    pods: Arc<pods::Pods>,
    services: Arc<services::Directory>,
    slices: Arc<endpoints::Slices>,
    /// Of Nodes, by their names.
    zones: Arc<HashMap<String, String>>,
    routes: Arc<routes::Attached>,
    authorizations: Arc<inbound::Authorizations>,
    /// `(namespace, name)`, sorted.
    service_accounts: Arc<Vec<(String, String)>>,
    diagnostics: Arc<Vec<Diagnostic>>,
}

/// What a route's status says of it, by our controller.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteStatus {
    /// `HTTPRoute` or `GRPCRoute`.
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    /// Of the route that was read.
    pub generation: i64,
    /// Per parentRef to a Service, as written.
    pub parents: Vec<(ParentRef, Vec<Condition>)>,
}

/// What an AuthorizationPolicy's status says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyStatus {
    pub namespace: String,
    pub name: String,
    /// Of the policy that was read.
    pub generation: i64,
    pub conditions: Vec<Condition>,
}

impl Tables {
    pub fn build(world: &World, settings: &Settings) -> Tables {
        let nothing = Tables {
            settings: settings.clone(),
            world: World::default(),
            pods: Arc::default(),
            services: Arc::default(),
            slices: Arc::default(),
            zones: Arc::default(),
            routes: Arc::default(),
            authorizations: Arc::default(),
            service_accounts: Arc::default(),
            diagnostics: Arc::default(),
        };
        nothing.next(world)
    }

    /// The tables of another world: the same as [`Tables::build`] makes, and for less where the two worlds have lists in common.
    pub fn next(&self, world: &World) -> Tables {
        let (before, settings) = (&self.world, &self.settings);
        let same_namespaces = Arc::ptr_eq(&before.namespaces, &world.namespaces);
        let pods = match same_namespaces && Arc::ptr_eq(&before.pods, &world.pods) {
            true => self.pods.clone(),
            false => Arc::new(self.pods.next(before, world, settings)),
        };
        let services = match same_namespaces && Arc::ptr_eq(&before.services, &world.services) {
            true => self.services.clone(),
            false => Arc::new(self.services.next(world, settings)),
        };
        let slices = match Arc::ptr_eq(&before.endpoint_slices, &world.endpoint_slices) {
            true => self.slices.clone(),
            false => Arc::new(self.slices.next(&before.endpoint_slices, &world.endpoint_slices)),
        };
        let zones = match Arc::ptr_eq(&before.nodes, &world.nodes) {
            true => self.zones.clone(),
            false => Arc::new(world.nodes.iter().filter_map(|node| zone(node)).collect()),
        };
        let same_services = Arc::ptr_eq(&self.services, &services);
        let same_routes = same_services
            && Arc::ptr_eq(&before.http_routes, &world.http_routes)
            && Arc::ptr_eq(&before.grpc_routes, &world.grpc_routes);
        let routes = match same_routes {
            true => self.routes.clone(),
            false => Arc::new(routes::Attached::read(world, &services.services, settings)),
        };
        let same_authorizations =
            same_routes && Arc::ptr_eq(&before.authorization_policies, &world.authorization_policies);
        let authorizations = match same_authorizations {
            true => self.authorizations.clone(),
            false => Arc::new(inbound::read(
                &world.authorization_policies,
                &services.services,
                &settings.identities(),
                |kind, namespace, name| routes.named(kind, namespace, name),
            )),
        };
        let same_pods = Arc::ptr_eq(&self.pods, &pods);
        let service_accounts =
            match same_pods && Arc::ptr_eq(&before.service_accounts, &world.service_accounts) {
                true => self.service_accounts.clone(),
                false => Arc::new(service_accounts(&pods, world)),
            };
        let same_findings = same_pods
            && same_authorizations
            && before.origins == world.origins
            && before.unreadable == world.unreadable;
        let diagnostics = match same_findings {
            true => self.diagnostics.clone(),
            false => {
                let parts = [&pods.problems, &services.problems, &authorizations.problems];
                Arc::new(diagnostic::of_world(world, parts.into_iter().flatten(), &routes.routes))
            }
        };
        Tables {
            settings: settings.clone(),
            world: world.clone(),
            pods,
            services,
            slices,
            zones,
            routes,
            authorizations,
            service_accounts,
            diagnostics,
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All Pods with an address, by namespace and name.
    pub fn pods(&self) -> &[Arc<PodInfo>] {
        &self.pods.sorted
    }

    pub fn pod(&self, namespace: &str, name: &str) -> Option<&PodInfo> {
        self.shared_pod(namespace, name).map(Arc::as_ref)
    }

    fn shared_pod(&self, namespace: &str, name: &str) -> Option<&Arc<PodInfo>> {
        pods::find(&self.pods.sorted, namespace, name)
    }

    /// One that may have no address yet.
    fn starting_pod(&self, namespace: &str, name: &str) -> Option<&Arc<PodInfo>> {
        self.shared_pod(namespace, name).or_else(|| pods::find(&self.pods.coming, namespace, name))
    }

    /// `None` too where two Pods claim the address.
    pub fn pod_by_ip(&self, ip: IpAddr) -> Option<&PodInfo> {
        self.pods.by_ip.get(&ip)?.as_deref()
    }

    /// Whether more than one Pod claims the address.
    pub fn is_conflicting(&self, ip: IpAddr) -> bool {
        matches!(self.pods.by_ip.get(&ip), Some(None))
    }

    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.shared_service(namespace, name).map(Arc::as_ref)
    }

    fn shared_service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.services.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The Service at a cluster IP.
    pub fn service_by_ip(&self, ip: IpAddr) -> Option<&Service> {
        self.services.by_cluster_ip.get(&ip).map(Arc::as_ref)
    }

    /// `(namespace, name)` of every service account that exists or runs a Pod.
    pub fn service_accounts(&self) -> &[(String, String)] {
        &self.service_accounts
    }

    /// What is wrong with the configuration; the gravest first.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Workloads whose Pods should have a proxy and have none: what runs is not as the configuration wants it.
    pub fn unmeshed(&self) -> &[Diagnostic] {
        &self.world.unmeshed
    }

    /// What may surprise the author of a route, beyond what is wrong with it.
    pub fn advice(&self, kind: &str, namespace: &str, name: &str) -> Vec<String> {
        self.routes.advice(kind, namespace, name, &self.services.services).into_iter().collect()
    }

    /// Routes on Service parents with their status, figures empty.
    pub fn routes(&self) -> Vec<Route> {
        self.routes
            .routes
            .iter()
            .filter(|route| !route.parents.is_empty())
            .map(routes::Checked::view)
            .collect()
    }

    /// What is to stand in the status of every route, those without a Service parent included.
    pub fn route_statuses(&self) -> Vec<RouteStatus> {
        let status = |route: &routes::Checked| RouteStatus {
            kind: route.kind,
            namespace: route.namespace.clone(),
            name: route.name.clone(),
            generation: route.generation,
            parents: route
                .parents
                .iter()
                .map(|parent| (parent.written.clone(), parent.conditions.clone()))
                .collect(),
        };
        self.routes.routes.iter().map(status).collect()
    }

    /// What is to stand in the status of every AuthorizationPolicy: it is accepted when there is nothing to say against it.
    pub fn policy_statuses(&self) -> Vec<PolicyStatus> {
        let status = |policy: &Arc<AuthorizationPolicy>| {
            let namespace = policy.metadata.namespace.as_deref().unwrap_or("default");
            let name = policy.metadata.name.as_deref().unwrap_or_default();
            let object = format!("AuthorizationPolicy {namespace}/{name}");
            let against = self.diagnostics.iter().filter(|finding| finding.object == object);
            let message = against.map(|finding| finding.message.as_str()).collect::<Vec<_>>().join("; ");
            let accepted = message.is_empty();
            PolicyStatus {
                namespace: namespace.into(),
                name: name.into(),
                generation: policy.metadata.generation.unwrap_or(0),
                conditions: vec![Condition {
                    kind: "Accepted".into(),
                    status: accepted,
                    reason: if accepted { "Accepted" } else { "Invalid" }.into(),
                    message,
                }],
            }
        };
        self.world.authorization_policies.iter().map(status).collect()
    }

    /// Whether a Pod's port is forwarded unread. The Pod's own annotation decides; else what Services declare that lead to the
    /// port; else Namespace or operator, by the number of the port or that of such a Service's.
    pub fn is_opaque(&self, pod: &PodInfo, port: u16) -> bool {
        if pod.declares_opaque_ports() {
            return pod.opaque_ports.contains(port);
        }
        let mut inherited = pod.opaque_ports.contains(port);
        let mut read = false;
        for service in self.services.with_opaque_ports(&pod.namespace) {
            let leads = |own: &&ServicePort| own.target_on(&pod.named_ports) == Some(port);
            let mut leading = service.ports.iter().filter(leads).peekable();
            if leading.peek().is_none() || !crate::selector::selects(&service.selector, pod.labels()) {
                continue;
            }
            for own in leading {
                match (own.declared, own.protocol == PortProtocol::Opaque) {
                    (true, true) => return true,
                    (true, false) => read = true,
                    (false, opaque) => inherited |= opaque,
                }
            }
        }
        inherited && !read
    }

    /// Service ports that clients read although a Pod behind them says that it forwards them unread, and the reverse.
    pub fn half_opaque(&self, namespaces: impl Fn(&str) -> bool) -> Vec<String> {
        let mut found: BTreeMap<(&str, &str, u16), (&str, bool)> = BTreeMap::new();
        // A Pod that declares nothing follows its Services.
        let declares =
            |pod: &&Arc<PodInfo>| pod.meshed && pod.declares_opaque_ports() && namespaces(&pod.namespace);
        for pod in self.pods.sorted.iter().filter(declares) {
            for service in
                self.services.services.values().filter(|service| service.namespace == pod.namespace)
            {
                for port in &service.ports {
                    let Some(target) = port.target_on(&pod.named_ports) else { continue };
                    let unread = pod.opaque_ports.contains(target);
                    let differs = unread != (port.protocol == PortProtocol::Opaque);
                    if differs && crate::selector::selects(&service.selector, pod.labels()) {
                        let key = (&*service.namespace, &*service.name, port.port);
                        found.entry(key).or_insert((&pod.name, unread));
                    }
                }
            }
        }
        let finding = |((namespace, service, port), (pod, unread))| {
            let does = if unread {
                "forwards it unread, clients read it"
            } else {
                "reads it, clients forward it unread"
            };
            format!("Service {namespace}/{service} port {port}: Pod {namespace}/{pod} {does}")
        };
        found.into_iter().map(finding).collect()
    }

    /// The zone of a Node.
    pub fn zone(&self, node: &str) -> Option<&str> {
        self.zones.get(node).map(String::as_str)
    }

    /// What a client's endpoints behind an authority depend on. `None` where there are none that they could.
    pub fn reach(&self, authority: &Authority) -> Option<Reach> {
        let service = self.service(&authority.namespace, &authority.service)?;
        Reach::of(authority, service, self.slices.of(&authority.namespace, &authority.service))
    }

    /// Whether endpoints behind an authority are hinted at for clients of this node.
    pub fn hints_at(&self, authority: &Authority, node: &str) -> bool {
        reach::names_node(self.slices.of(&authority.namespace, &authority.service), node)
    }

    /// The endpoints behind an authority, for a client at this place. Of one that is nowhere, all.
    pub fn resolve(&self, authority: &Authority, place: Place<'_>) -> EndpointSet {
        let mut set = EndpointSet {
            namespace: authority.namespace.clone(),
            service: authority.service.clone(),
            ..EndpointSet::default()
        };
        let Some(service) = self.service(&authority.namespace, &authority.service) else { return set };
        set.exists = service.kind != ServiceKind::ExternalName && service.port(authority.port).is_some();
        let slices = self.slices.of(&authority.namespace, &authority.service);
        let whose = |endpoint: &discovery::Endpoint, ip| self.whose(&authority.namespace, endpoint, ip);
        let opaque = |pod: &PodInfo, port: u16| self.is_opaque(pod, port);
        if set.exists {
            set.endpoints = endpoints::resolve(authority, service, slices, whose, opaque, place);
        }
        set
    }

    /// By its address where that is one Pod's, else by the name that the endpoint says: two Pods may claim an address for a while, and one
    /// that shares its node's has none of its own.
    fn whose(&self, namespace: &str, endpoint: &discovery::Endpoint, ip: IpAddr) -> Whose<'_> {
        let by_ip = self.pods.by_ip.get(&ip).and_then(Option::as_ref);
        let Some(name) = endpoints::pod_name(endpoint) else {
            return by_ip.map_or(Whose::Nobody, Whose::Pod);
        };
        let is_it = |pod: &&Arc<PodInfo>| pod.name == name && pod.namespace == namespace;
        let by_name = || self.shared_pod(namespace, name).filter(|pod| pod.ips.contains(&ip));
        let pod = by_ip.filter(is_it).or_else(by_name);
        pod.map_or(Whose::Unknown, Whose::Pod)
    }

    /// One address as an endpoint: with the Pod's identity where it is a Pod's.
    pub fn endpoint_at(&self, addr: SocketAddr) -> Endpoint {
        match self.pod_by_ip(addr.ip()) {
            Some(pod) => Endpoint::on_pod(pod, addr, self.is_opaque(pod, addr.port())),
            None => Endpoint::bare(addr),
        }
    }

    /// What a proxy in `source_namespace` is told about a target. `None`: an authority that the mesh knows nothing about.
    pub fn outbound(&self, target: &Target, source_namespace: &str) -> Option<outbound::Policy> {
        match target {
            Target::Addr(addr) => Some(match self.service_by_ip(addr.ip()) {
                Some(service) => self
                    .service_policy(service, addr.port(), source_namespace)
                    .map_or(outbound::Policy::UndefinedPort { port: addr.port() }, outbound::Policy::Service),
                None => self.forward(self.endpoint_at(*addr)),
            }),
            Target::Authority(authority) if authority.host.is_some() => {
                let set = self.resolve(authority, Place::default());
                Some(self.forward(*set.endpoints.into_values().next()?))
            }
            Target::Authority(authority) => {
                let service = self.service(&authority.namespace, &authority.service)?;
                if service.kind == ServiceKind::ExternalName {
                    return None;
                }
                Some(match self.service_policy(service, authority.port, source_namespace) {
                    Some(policy) => outbound::Policy::Service(policy),
                    None => outbound::Policy::UndefinedPort { port: authority.port },
                })
            }
        }
    }

    fn forward(&self, endpoint: Endpoint) -> outbound::Policy {
        let pod = self.pod(&endpoint.namespace, &endpoint.pod);
        outbound::Policy::Forward(Forward {
            meta: Meta::Default(if pod.is_some() { "pod" } else { "egress-fallback" }),
            opaque: pod.is_some_and(|pod| self.is_opaque(pod, endpoint.addr.port())),
            endpoint,
        })
    }

    fn service_policy(&self, service: &Service, port: u16, source_namespace: &str) -> Option<ServicePolicy> {
        let protocol = service.port(port)?.protocol;
        let meta = Meta::service(&service.namespace, &service.name, port);
        let authority = Authority {
            host: None,
            service: service.name.clone(),
            namespace: service.namespace.clone(),
            port,
        };
        let backend = Backend::Service {
            meta: meta.clone(),
            authority: authority.in_domain(&self.settings.cluster_domain),
        };
        let attached = self.attached_to(service, port, source_namespace);
        let grpc = attached.first().is_some_and(|route| route.kind == routes::GRPC);
        let built = attached.into_iter().map(|route| build_route(route, service, &backend)).collect();
        let routes = match grpc {
            true => Routes::Grpc(built),
            false if built.is_empty() => Routes::Http(vec![default_route(service, &backend)]),
            false => Routes::Http(built),
        };
        Some(ServicePolicy { meta, protocol, routes, failure_accrual: service.accrual.clone(), backend })
    }

    /// A client's own namespace's routes replace those that the Service's namespace offers to everybody. Of one kind only.
    fn attached_to(&self, service: &Service, port: u16, source_namespace: &str) -> Vec<&routes::Checked> {
        let of = |namespace: &str| -> Vec<&routes::Checked> {
            self.routes.on(service, port).filter(|route| route.namespace == namespace).collect()
        };
        let consumer = match source_namespace == service.namespace {
            true => vec![],
            false => of(source_namespace),
        };
        let mut group = if consumer.is_empty() { of(&service.namespace) } else { consumer };
        if group.iter().any(|route| route.kind == routes::GRPC) {
            group.retain(|route| route.kind == routes::GRPC);
        }
        group
    }

    /// What the proxy of a Pod is told about one of its ports; before the Pod has an address, too. `None`: no such Pod.
    pub fn inbound(&self, namespace: &str, pod: &str, port: u16) -> Option<inbound::Policy> {
        let pod = self.starting_pod(namespace, pod)?;
        Some(self.inbound_of(pod, port))
    }

    fn inbound_of(&self, pod: &PodInfo, port: u16) -> inbound::Policy {
        let opaque = self.is_opaque(pod, port);
        let networks = &self.settings.probe_networks;
        inbound::build(pod, port, opaque, &self.services.services, &self.authorizations, networks)
    }
}

fn zone(node: &Node) -> Option<(String, String)> {
    let zone = node.metadata.labels.as_ref()?.get(ZONE)?;
    Some((node.metadata.name.clone()?, zone.clone()))
}

fn service_accounts(pods: &pods::Pods, world: &World) -> Vec<(String, String)> {
    let mut accounts: HashSet<(&str, &str)> =
        pods.sorted.iter().map(|pod| (&*pod.namespace, &*pod.service_account)).collect();
    for account in world.service_accounts.iter() {
        let namespace = account.metadata.namespace.as_deref().unwrap_or("default");
        accounts.extend(account.metadata.name.as_deref().map(|name| (namespace, name)));
    }
    let mut accounts: Vec<(String, String)> =
        accounts.into_iter().map(|(namespace, name)| (namespace.into(), name.into())).collect();
    accounts.sort();
    accounts
}

fn default_route(service: &Service, backend: &Backend) -> outbound::Route {
    outbound::Route {
        meta: Meta::Default("http"),
        rules: vec![outbound::Rule {
            matches: vec![Match::Http(outbound::HttpMatch {
                path: outbound::PathMatch::Prefix("/".into()),
                headers: vec![],
                query: vec![],
                method: None,
            })],
            filters: vec![],
            backends: vec![whole(backend)],
            timeouts: service.timeouts.clone(),
            retry: service.retry.clone(),
        }],
    }
}

fn whole(backend: &Backend) -> outbound::WeightedBackend {
    outbound::WeightedBackend { weight: 1, backend: backend.clone(), filters: vec![] }
}

fn build_route(route: &routes::Checked, service: &Service, parent: &Backend) -> outbound::Route {
    let grpc = route.kind == routes::GRPC;
    let rules = route.rules.iter().map(|rule| {
        let backends = match &rule.backends {
            None => vec![whole(parent)],
            Some(backends) => {
                let live = backends.iter().filter(|backend| backend.weight > 0);
                let live: Vec<_> = live.map(weighted).collect();
                if live.is_empty() { vec![nowhere(parent)] } else { live }
            }
        };
        let retry = if grpc { &service.grpc_retry } else { &service.retry };
        outbound::Rule {
            matches: rule.matches.clone(),
            filters: rule.filters.clone(),
            backends,
            timeouts: Timeouts {
                request: rule.request_timeout.unwrap_or(service.timeouts.request),
                backend_request: rule.try_timeout,
            },
            retry: rule.retry.clone().unwrap_or_else(|| retry.clone()),
        }
    });
    outbound::Route { meta: route.meta(), rules: rules.collect() }
}

fn weighted(backend: &routes::WeightedBackend) -> outbound::WeightedBackend {
    outbound::WeightedBackend {
        weight: backend.weight,
        backend: backend.backend.clone(),
        filters: backend.filters.clone(),
    }
}

/// All weights are zero: nothing may go anywhere, and the client learns why.
fn nowhere(parent: &Backend) -> outbound::WeightedBackend {
    let meta = match parent {
        Backend::Service { meta, .. } | Backend::Invalid { meta, .. } => meta.clone(),
    };
    whole(&Backend::Invalid { meta, reason: "every backend has weight 0".into() })
}
