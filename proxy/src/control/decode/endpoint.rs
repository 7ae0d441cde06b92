//! Endpoints: addresses with identity, protocol and labels.

use super::{Invalid, Result, required};
use crate::policy::endpoint::{Endpoint, EndpointTls, ProtocolHint};
use linkerd2_proxy_api::{
    destination::{
        ProtocolHint as Hint, TlsIdentity, WeightedAddr, protocol_hint::Protocol, tls_identity::Strategy,
    },
    net::TcpAddress,
};
use rustls_pki_types::ServerName;
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
};

/// Weight of an endpoint that was given none.
const NORMAL_WEIGHT: u32 = 10_000;

/// Labels of the set are every endpoint's; its own win.
pub fn endpoint(addr: WeightedAddr, set_labels: &HashMap<String, String>) -> Result<Endpoint> {
    let tls = addr.tls_identity.map(tls).transpose().map_err(|invalid| invalid.at("tls_identity"))?;
    let (hint, transport_port) = hint(addr.protocol_hint)?;
    let labels: BTreeMap<String, String> = set_labels.clone().into_iter().chain(addr.metric_labels).collect();
    Ok(Endpoint {
        addr: address(required("addr", addr.addr)?)?,
        weight: if addr.weight == 0 { NORMAL_WEIGHT } else { addr.weight },
        // A transport header means nothing to a peer that cannot know who sent it.
        opaque_transport_port: transport_port.filter(|_| tls.is_some()),
        tls,
        hint,
        labels: labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
    })
}

pub fn address(addr: TcpAddress) -> Result<SocketAddr> {
    let ip = required("ip", addr.ip)
        .and_then(|ip| IpAddr::try_from(ip).map_err(|_| Invalid::new("not an IP address").at("ip")))?;
    match u16::try_from(addr.port) {
        Ok(port) if port != 0 => Ok(SocketAddr::new(ip, port)),
        _ => Err(Invalid::new(format!("{} is not a port", addr.port)).at("port")),
    }
}

/// An endpoint whose identity we cannot check is not an endpoint: never plaintext instead.
fn tls(identity: TlsIdentity) -> Result<EndpointTls> {
    let name = match required("strategy", identity.strategy)? {
        Strategy::DnsLikeIdentity(dns) => dns.name,
        Strategy::UriLikeIdentity(_) => return Err(Invalid::new("URI identities are not supported")),
    };
    if identity.server_name.is_some_and(|server_name| server_name.name != name) {
        return Err(Invalid::new("server name and identity differ"));
    }
    let not_a_name = |_| Invalid::new(format!("{name:?} is not an identity"));
    match ServerName::try_from(name.clone()).map_err(not_a_name)? {
        server_name @ ServerName::DnsName(_) => Ok(EndpointTls { identity: name.into(), server_name }),
        _ => Err(Invalid::new(format!("{name:?} is not a DNS name"))),
    }
}

fn hint(hint: Option<Hint>) -> Result<(ProtocolHint, Option<u16>)> {
    let Some(hint) = hint else { return Ok((ProtocolHint::None, None)) };
    let protocol = match hint.protocol {
        None => ProtocolHint::None,
        Some(Protocol::H2(_)) => ProtocolHint::Http2,
        Some(Protocol::Opaque(_)) => ProtocolHint::Opaque,
    };
    let port = match hint.opaque_transport {
        None => None,
        Some(transport) => {
            super::optional_port(transport.inbound_port).map_err(|invalid| invalid.at("opaque_transport"))?
        }
    };
    Ok((protocol, port))
}
