//! `Destination`: the endpoints of Services, and profiles for proxies that ask for them.

use super::{
    encode,
    stream::{Answers, Watcher},
    workload::Context,
};
use crate::rate::Peer;
use linkerd2_proxy_api::destination::{
    DestinationProfile, GetDestination, Update, destination_server::Destination,
};
use mesh_policy::{Authority, AuthorityError, EndpointSet, PortProtocol, ServiceKind, Tables};
use std::net::SocketAddr;
use tonic::{Request, Response, Status, async_trait};

#[derive(Clone, Debug)]
pub struct Destinations(pub Watcher);

#[async_trait]
impl Destination for Destinations {
    type GetStream = Answers<Update>;

    /// The first message is complete, or says that there are no endpoints. A Service that vanishes later leaves the stream open:
    /// it may come back.
    async fn get(&self, request: Request<GetDestination>) -> Result<Response<Self::GetStream>, Status> {
        let peer = Peer::of(&request);
        let request = request.into_inner();
        let tables = self.0.now();
        let authority = Authority::parse(&request.path, &tables.settings().cluster_domain)
            .map_err(|error| Status::invalid_argument(format!("path: {error}")))?;
        match tables.service(&authority.namespace, &authority.service) {
            Some(service) if service.kind == ServiceKind::ExternalName => {
                return Err(Status::invalid_argument(format!(
                    "path: Service {authority} is an ExternalName"
                )));
            }
            Some(service) if service.port(authority.port).is_some() => {}
            _ => {
                return Err(Status::not_found(format!(
                    "path: no Service {authority} with port {}",
                    authority.port
                )));
            }
        }
        let context = Context::parse(&request.context_token);
        let answer = move |tables: &Tables| -> Result<(EndpointSet, Option<String>), Status> {
            let client = tables.pod(&context.ns, &context.pod);
            let node = Some(context.node_name.as_str()).filter(|node| !node.is_empty());
            let node = node.or(client.and_then(|pod| pod.node.as_deref()));
            Ok((tables.resolve(&authority, node), client.and_then(|pod| pod.zone.clone())))
        };
        let updates = self.0.follow(peer, answer, |before, (now, zone)| {
            encode::destination::updates(before.map(|(set, _)| set), now, zone.as_deref())
        })?;
        Ok(Response::new(updates))
    }

    type GetProfileStream = Answers<DestinationProfile>;

    async fn get_profile(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetProfileStream>, Status> {
        let peer = Peer::of(&request);
        let path = request.into_inner().path;
        let tables = self.0.now();
        // A proxy holds its connection until this is answered, so whatever can be answered is.
        let profile: Box<dyn Fn(&Tables) -> Result<DestinationProfile, Status> + Send> =
            match Authority::parse(&path, &tables.settings().cluster_domain) {
                Ok(authority) => Box::new(move |tables| Ok(of_authority(tables, &authority))),
                Err(AuthorityError::Address(addr)) => Box::new(move |tables| of_address(tables, addr)),
                Err(error) => return Err(Status::invalid_argument(format!("path: {error}"))),
            };
        self.0.watch(peer, profile).map(Response::new)
    }
}

fn of_authority(tables: &Tables, authority: &Authority) -> DestinationProfile {
    let service = tables.service(&authority.namespace, &authority.service);
    let Some(service) = service.filter(|service| service.kind != ServiceKind::ExternalName) else {
        return DestinationProfile::default();
    };
    let Some(port) = service.port(authority.port) else { return DestinationProfile::default() };
    if authority.host.is_some() {
        let one = tables.resolve(authority, None).endpoints.into_values().next();
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
