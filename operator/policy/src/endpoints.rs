//! Which addresses stand behind a Service's port, and how each is to be reached.

use crate::{
    PodInfo,
    reach::{Near, Place},
    services::{Authority, Service, ServicePort},
};
use k8s_openapi::api::discovery::v1::{self as discovery, EndpointSlice};
use mesh_api::names;
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    ptr,
    sync::{Arc, Weak},
};

/// The endpoints of one Service port (or of one pod of a headless Service) that take connections, by address: those that are ready.
/// Where none is, those that are ending and still serve, as kube-proxy has it: a last Pod answers until its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndpointSet {
    /// Whether the Service exists and has the port.
    pub exists: bool,
    pub namespace: String,
    pub service: String,
    /// Boxed: a map keeps room for more of them than most Services have.
    pub endpoints: BTreeMap<SocketAddr, Box<Endpoint>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProtocolHint {
    None,
    /// The peer's proxy takes HTTP/2.
    H2,
    /// The peer must not look at the bytes.
    Opaque,
}

/// One address, and what a client's proxy has to know about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    pub addr: SocketAddr,
    /// `Some`: mutual TLS with this identity, or nothing.
    pub identity: Option<String>,
    pub hint: ProtocolHint,
    /// The peer's port that takes a transport header.
    pub opaque_transport_port: Option<u16>,
    /// Empty where the address belongs to no Pod of the mesh's world.
    pub namespace: String,
    pub pod: String,
    pub workload: String,
    pub service_account: String,
    pub zone: Option<String>,
}

impl Endpoint {
    /// How to reach a port of a Pod.
    pub(crate) fn on_pod(pod: &PodInfo, addr: SocketAddr, opaque: bool) -> Endpoint {
        // What is not redirected to the proxy, its own admin port among it, has no mutual TLS.
        let port = addr.port();
        let behind_proxy = pod.meshed && port != names::ADMIN_PORT && !pod.skipped_ports.contains(port);
        let hint = match (behind_proxy, opaque) {
            (false, _) => ProtocolHint::None,
            (true, true) => ProtocolHint::Opaque,
            (true, false) => ProtocolHint::H2,
        };
        Endpoint {
            addr,
            identity: pod.identity.clone().filter(|_| behind_proxy),
            hint,
            opaque_transport_port: behind_proxy.then_some(names::INBOUND_PORT),
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            workload: pod.workload.clone(),
            service_account: pod.service_account.clone(),
            zone: pod.zone.clone(),
        }
    }

    /// An address that we know nothing about: plaintext, as without mesh.
    pub(crate) fn bare(addr: SocketAddr) -> Endpoint {
        Endpoint {
            addr,
            identity: None,
            hint: ProtocolHint::None,
            opaque_transport_port: None,
            namespace: String::new(),
            pod: String::new(),
            workload: String::new(),
            service_account: String::new(),
            zone: None,
        }
    }
}

/// EndpointSlices by namespace and Service, in the order of their names.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    known: Known,
    /// Who we are, for the next one.
    id: Arc<()>,
    /// Which one was before us, and the Services whose slices were not the same there.
    before: Weak<()>,
    moved: HashSet<(String, String)>,
}

type Known = HashMap<String, Arc<OfNamespace>>;
type OfNamespace = HashMap<String, Arc<Vec<Arc<EndpointSlice>>>>;

impl Slices {
    /// The index of `now`, where ours is that of `before`. Services whose slices did not change share theirs with us.
    pub fn next(&self, before: &[Arc<EndpointSlice>], now: &[Arc<EndpointSlice>]) -> Slices {
        let known = self.known.clone();
        let mut next = Slices { known, before: Arc::downgrade(&self.id), ..Slices::default() };
        let differs = |at: &usize| match (before.get(*at), now.get(*at)) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            _ => true,
        };
        let moved: Vec<usize> = (0..before.len().max(now.len())).filter(differs).collect();
        for slice in moved.iter().filter_map(|at| before.get(*at)) {
            next.edit(slice, |slices| slices.retain(|own| !Arc::ptr_eq(own, slice)));
        }
        for slice in moved.iter().filter_map(|at| now.get(*at)) {
            next.edit(slice, |slices| {
                let at = slices.partition_point(|own| own.metadata.name <= slice.metadata.name);
                slices.insert(at, slice.clone());
            });
        }
        next
    }

    fn edit(&mut self, slice: &EndpointSlice, edit: impl FnOnce(&mut Vec<Arc<EndpointSlice>>)) {
        let labels = slice.metadata.labels.as_ref();
        let Some(service) = labels.and_then(|labels| labels.get("kubernetes.io/service-name")) else {
            return;
        };
        let namespace = slice.metadata.namespace.as_deref().unwrap_or("default");
        self.moved.insert((namespace.to_owned(), service.clone()));
        let of_namespace = match self.known.get_mut(namespace) {
            Some(known) => known,
            None => self.known.entry(namespace.to_owned()).or_default(),
        };
        let of_namespace = Arc::make_mut(of_namespace);
        edit(Arc::make_mut(of_namespace.entry(service.clone()).or_default()));
    }

    pub fn of(&self, namespace: &str, service: &str) -> &[Arc<EndpointSlice>] {
        let found = self.known.get(namespace).and_then(|services| services.get(service));
        found.map(|slices| slices.as_slice()).unwrap_or_default()
    }

    /// The Services that may have other slices than `before`. `None` where that is not the one just before us.
    pub fn moved_since(&self, before: &Slices) -> Option<&HashSet<(String, String)>> {
        ptr::eq(self.before.as_ptr(), Arc::as_ptr(&before.id)).then_some(&self.moved)
    }

    /// Whether this Service certainly has the same slices there. Looks at no slice.
    pub fn shares(&self, other: &Slices, namespace: &str, service: &str) -> bool {
        match (self.known.get(namespace), other.known.get(namespace)) {
            (Some(ours), Some(theirs)) if !Arc::ptr_eq(ours, theirs) => {
                match (ours.get(service), theirs.get(service)) {
                    (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
                    (ours, theirs) => ours.is_none() && theirs.is_none(),
                }
            }
            (ours, theirs) => ours.is_some() == theirs.is_some(),
        }
    }
}

/// The address that consumers of an endpoint take: all of its addresses are the same pod, and the API says that the first counts.
pub(crate) fn address(endpoint: &discovery::Endpoint) -> Option<IpAddr> {
    endpoint.addresses.first()?.parse().ok()
}

/// Whose an endpoint is.
pub(crate) enum Whose<'a> {
    Pod(&'a Arc<PodInfo>),
    /// It names no Pod, and no Pod has its address.
    Nobody,
    /// It names a Pod of which nothing is known, such as whether it is meshed: a watch is behind.
    Unknown,
}

/// The Pod that an endpoint names.
pub(crate) fn pod_name(endpoint: &discovery::Endpoint) -> Option<&str> {
    let target = endpoint.target_ref.as_ref()?;
    let is_pod = target.kind.as_deref().is_none_or(|kind| kind == "Pod");
    target.name.as_deref().filter(|_| is_pod)
}

/// The endpoints of `authority` for a client at `place`. `opaque` tells which ports of which pods are forwarded unread.
pub(crate) fn resolve<'a>(
    authority: &Authority,
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    whose: impl Fn(&discovery::Endpoint, IpAddr) -> Whose<'a>,
    opaque: impl Fn(&PodInfo, u16) -> bool,
    place: Place<'_>,
) -> BTreeMap<SocketAddr, Box<Endpoint>> {
    let (mut ready, mut ending) = (BTreeMap::new(), BTreeMap::new());
    let Some(service_port) = service.port(authority.port) else { return ready };
    let of_port = slices.iter().filter_map(|slice| Some((port(slice, service_port)?, slice)));
    let all = of_port.flat_map(|(port, slice)| slice.endpoints.iter().map(move |endpoint| (port, endpoint)));
    let near = match authority.host.is_some() || service.node_local {
        true => Near::Anywhere,
        false => {
            // Those that are left out below decide nothing.
            let is_known = |endpoint: &&discovery::Endpoint| {
                address(endpoint).is_some_and(|ip| !matches!(whose(endpoint, ip), Whose::Unknown))
            };
            let ready = all.clone().map(|(_, endpoint)| endpoint).filter(|endpoint| is_ready(endpoint));
            Near::of(ready.filter(is_known), place)
        }
    };
    for (port, endpoint) in all {
        let endpoints = match state(endpoint) {
            State::Ready if !near.takes(endpoint, place) => continue,
            State::Ready => &mut ready,
            State::Ending => &mut ending,
            State::Unfit => continue,
        };
        let elsewhere =
            service.node_local && place.node.is_some() && endpoint.node_name.as_deref() != place.node;
        let other_host = authority.host.is_some() && endpoint.hostname != authority.host;
        if elsewhere || other_host {
            continue;
        }
        let Some(ip) = address(endpoint) else { continue };
        let addr = SocketAddr::new(ip, port);
        let mut resolved = match whose(endpoint, ip) {
            Whose::Pod(pod) => Endpoint::on_pod(pod, addr, opaque(pod, port)),
            Whose::Nobody => Endpoint::bare(addr),
            // It may be meshed, and then it is not to be called in plaintext.
            Whose::Unknown => continue,
        };
        resolved.zone = endpoint.zone.clone().or(resolved.zone);
        endpoints.insert(addr, Box::new(resolved));
    }
    if ready.is_empty() { ending } else { ready }
}

/// Which port of its Pods a slice has for a Service's. It names its ports after the Service's; a Service with one port may leave the
/// name out.
fn port(slice: &EndpointSlice, of: &ServicePort) -> Option<u16> {
    if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
        return None;
    }
    let named = slice.ports.iter().flatten().find(|port| {
        port.protocol.as_deref().unwrap_or("TCP") == "TCP"
            && port.name.as_deref().unwrap_or_default() == of.name.as_deref().unwrap_or_default()
    });
    u16::try_from(named?.port?).ok()
}

pub(crate) fn is_ready(endpoint: &discovery::Endpoint) -> bool {
    state(endpoint) == State::Ready
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Ready,
    Ending,
    Unfit,
}

/// What is not said is favourable, as the API has it; only an end has to be said.
fn state(endpoint: &discovery::Endpoint) -> State {
    let Some(conditions) = &endpoint.conditions else { return State::Ready };
    let ready = conditions.ready.unwrap_or(true);
    match (ready, conditions.serving.unwrap_or(ready), conditions.terminating.unwrap_or(false)) {
        (true, ..) => State::Ready,
        (false, true, true) => State::Ending,
        (false, ..) => State::Unfit,
    }
}
