//! `Destination`: the endpoints of Services, and profiles for proxies that ask for them.

use super::{
    encode, method,
    topics::{Question, Topics},
    workload::Context,
};
use crate::rate::Peer;
use axum::Router;
use bytes::Bytes;
use linkerd2_proxy_api::destination::{DestinationProfile, GetDestination};
use mesh_policy::{
    Authority, AuthorityError, EndpointSet, Place, PortProtocol, Reach, ServiceKind, Tables, outbound::Target,
};
use std::net::SocketAddr;
use tonic::{Request, Status};

const GET: &str = "/io.linkerd.proxy.destination.Destination/Get";
const GET_PROFILE: &str = "/io.linkerd.proxy.destination.Destination/GetProfile";

pub fn routes(endpoints: Topics<Endpoints>, profiles: Topics<Profile>) -> Router {
    let get = move |request: Request<GetDestination>| {
        let peer = Peer::of(&request);
        let request = request.into_inner();
        let context = Context::parse(&request.context_token);
        let question = Endpoints::parse(&request.path, &context, &endpoints.now())?;
        let asked = question.clone();
        endpoints.watch(peer, &question, move |tables| {
            (context.zone(tables).map(str::to_owned), asked.suits(&context, tables))
        })
    };
    let get_profile = move |request: Request<GetDestination>| {
        let question = Profile::parse(&request.get_ref().path, &profiles.now())?;
        profiles.watch(Peer::of(&request), &question, |_| ((), true))
    };
    method::streaming(GET, get).merge(method::streaming(GET_PROFILE, get_profile))
}

/// The endpoints of a Service's port. The first message is complete, or says that there are none. A Service that vanishes later leaves
/// the stream open: it may come back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    authority: Authority,
    /// What the answer depends on.
    reach: Reach,
    /// Where the client is, as far as it does.
    node: Option<String>,
    zone: Option<String>,
}

impl Endpoints {
    fn parse(path: &str, context: &Context, tables: &Tables) -> Result<Endpoints, Status> {
        let authority = Authority::parse(path, &tables.settings().cluster_domain)
            .map_err(|error| Status::invalid_argument(format!("path: {error}")))?;
        match tables.service(&authority.namespace, &authority.service) {
            Some(service) if service.kind == ServiceKind::ExternalName => {
                Err(Status::invalid_argument(format!("path: Service {authority} is an ExternalName")))
            }
            Some(service) if service.port(authority.port).is_some() => {
                let reach = tables.reach(&authority).unwrap_or(Reach::Cluster);
                let (node, zone) = place(&authority, reach, context, tables);
                Ok(Endpoints { authority, reach, node, zone })
            }
            _ => Err(Status::not_found(format!("path: no Service {authority} with port {}", authority.port))),
        }
    }

    /// Whether this is still what its client is to ask: its node may have been given a zone since, or an endpoint.
    fn suits(&self, context: &Context, tables: &Tables) -> bool {
        match self.reach {
            Reach::Cluster | Reach::Node => true,
            Reach::HintedZone | Reach::HintedNode => {
                let (node, zone) = place(&self.authority, self.reach, context, tables);
                node == self.node && zone == self.zone
            }
        }
    }
}

/// What of a client's place the answer depends on: so those who get the same ask the same. A node that no hint names is like all others
/// of its zone.
fn place(
    authority: &Authority,
    reach: Reach,
    context: &Context,
    tables: &Tables,
) -> (Option<String>, Option<String>) {
    let (node, zone) = (context.node(tables), context.zone(tables));
    let (node, zone) = match reach {
        Reach::Cluster => (None, None),
        Reach::Node => (node, None),
        Reach::HintedZone => (None, zone),
        Reach::HintedNode => (node.filter(|node| tables.hints_at(authority, node)), zone),
    };
    (node.map(str::to_owned), zone.map(str::to_owned))
}

#[cfg(test)]
impl Endpoints {
    pub fn everywhere(path: &str) -> Endpoints {
        let authority = Authority::parse(path, "cluster.local").expect("a valid path");
        Endpoints { authority, reach: Reach::Cluster, node: None, zone: None }
    }
}

impl Question for Endpoints {
    type Answer = EndpointSet;
    /// The zone that it is in.
    type Listener = Option<String>;

    fn service(&self) -> Option<(&str, &str)> {
        Some((&self.authority.namespace, &self.authority.service))
    }

    fn is_unchanged(&self, before: &Tables, now: &Tables) -> bool {
        now.has_same_endpoints(before, &self.authority)
    }

    fn answer(&self, tables: &Tables) -> Result<EndpointSet, Status> {
        if tables.reach(&self.authority).is_some_and(|reach| reach != self.reach) {
            return Err(Status::aborted("where the Service keeps its traffic has changed"));
        }
        let place = Place { node: self.node.as_deref(), zone: self.zone.as_deref() };
        Ok(tables.resolve(&self.authority, place))
    }

    fn step(before: Option<&EndpointSet>, now: &EndpointSet, zone: &Option<String>) -> Bytes {
        encode::wire(&encode::destination::updates(before, now, zone.as_deref()))
    }
}

/// What to do with a target. A proxy holds its connection until this is answered, so whatever can be answered is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Profile(Target);

impl Profile {
    fn parse(path: &str, tables: &Tables) -> Result<Profile, Status> {
        match Authority::parse(path, &tables.settings().cluster_domain) {
            Ok(authority) => Ok(Profile(Target::Authority(authority))),
            Err(AuthorityError::Address(addr)) => Ok(Profile(Target::Addr(addr))),
            Err(error) => Err(Status::invalid_argument(format!("path: {error}"))),
        }
    }
}

impl Question for Profile {
    type Answer = DestinationProfile;
    type Listener = ();

    fn service(&self) -> Option<(&str, &str)> {
        self.0.endpoints_of()
    }

    fn is_unchanged(&self, before: &Tables, now: &Tables) -> bool {
        now.has_same_outbound(before, &self.0)
    }

    fn answer(&self, tables: &Tables) -> Result<DestinationProfile, Status> {
        match &self.0 {
            Target::Authority(authority) => Ok(of_authority(tables, authority)),
            Target::Addr(addr) => of_address(tables, *addr),
        }
    }

    fn step(_: Option<&DestinationProfile>, now: &DestinationProfile, _: &()) -> Bytes {
        encode::wire(std::slice::from_ref(now))
    }
}

fn of_authority(tables: &Tables, authority: &Authority) -> DestinationProfile {
    let service = tables.service(&authority.namespace, &authority.service);
    let Some(service) = service.filter(|service| service.kind != ServiceKind::ExternalName) else {
        return DestinationProfile::default();
    };
    let Some(port) = service.port(authority.port) else { return DestinationProfile::default() };
    if authority.host.is_some() {
        let one = tables.resolve(authority, Place::default()).endpoints.into_values().next();
        return one.map(|endpoint| encode::destination::pod_profile(&endpoint)).unwrap_or_default();
    }
    let domain = &tables.settings().cluster_domain;
    encode::destination::service_profile(authority, domain, port.protocol == PortProtocol::Opaque)
}

fn of_address(tables: &Tables, addr: SocketAddr) -> Result<DestinationProfile, Status> {
    if tables.is_conflicting(addr.ip()) {
        return Err(Status::failed_precondition(format!("more than one Pod has the address {}", addr.ip())));
    }
    let Some(service) = tables.service_by_ip(addr.ip()) else {
        return Ok(encode::destination::pod_profile(&tables.endpoint_at(addr)));
    };
    let authority = Authority {
        host: None,
        service: service.name.clone(),
        namespace: service.namespace.clone(),
        port: addr.port(),
    };
    Ok(of_authority(tables, &authority))
}
