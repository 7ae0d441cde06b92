//! May this client do that? A pure function of policy and client.

use crate::{
    policy::inbound::{Authentication, Authorization, Network, Policy},
    telemetry::metrics::labels::PeerTls,
};
use std::{net::IpAddr, sync::Arc};

/// What is known of a client.
#[derive(Clone, Debug)]
pub struct Peer {
    pub tls: PeerTls,
    pub ip: IpAddr,
}

impl Peer {
    pub fn new(tls: PeerTls, ip: IpAddr) -> Peer {
        // An IPv4 client of a dual-stack listener is the same client.
        Peer { tls, ip: ip.to_canonical() }
    }

    pub fn plain(ip: IpAddr) -> Peer {
        Peer::new(PeerTls::Disabled, ip)
    }

    pub fn identity(&self) -> Option<&str> {
        match &self.tls {
            PeerTls::Identity(id) => Some(id),
            PeerTls::NoIdentity | PeerTls::Disabled => None,
        }
    }

    /// The same, to be kept.
    pub fn id(&self) -> Option<Arc<str>> {
        match &self.tls {
            PeerTls::Identity(id) => Some(id.clone()),
            PeerTls::NoIdentity | PeerTls::Disabled => None,
        }
    }
}

/// The port's own authorization that lets the client in; `None`: it is refused.
pub fn connection<'a>(policy: &'a Policy, peer: &Peer) -> Option<&'a Authorization> {
    first(&policy.authorizations, peer)
}

/// The same for a request: those of its route are added to the port's.
pub fn request<'a>(policy: &'a Policy, route: &'a [Authorization], peer: &Peer) -> Option<&'a Authorization> {
    added(first(&policy.authorizations, peer), || first(route, peer))
}

/// The same for a request that asks for a tunnel. Kubelet's probes do not: what lets them in lets in nobody else.
pub fn tunnel<'a>(policy: &'a Policy, route: &'a [Authorization], peer: &Peer) -> Option<&'a Authorization> {
    let first = |authorizations: &'a [Authorization]| {
        of(authorizations.iter().filter(|own| !own.meta.is_probe()), peer)
    };
    added(first(&policy.authorizations), || first(route))
}

fn added<'a>(
    by_port: Option<&'a Authorization>,
    by_route: impl FnOnce() -> Option<&'a Authorization>,
) -> Option<&'a Authorization> {
    match by_port {
        Some(authorization) if !authorization.audit => by_port,
        // What only an audit allows is better allowed by a route that means it.
        Some(_) | None => by_route().filter(|route| !route.audit || by_port.is_none()).or(by_port),
    }
}

/// One that means it before one that only watches.
fn first<'a>(authorizations: &'a [Authorization], peer: &Peer) -> Option<&'a Authorization> {
    of(authorizations.iter(), peer)
}

fn of<'a>(
    authorizations: impl Iterator<Item = &'a Authorization> + Clone,
    peer: &Peer,
) -> Option<&'a Authorization> {
    let allowing = authorizations.filter(|authorization| allows(authorization, peer));
    allowing.clone().find(|own| !own.audit).or_else(|| allowing.clone().next())
}

fn allows(authorization: &Authorization, peer: &Peer) -> bool {
    authorization.networks.iter().any(|network| contains(network, peer.ip))
        && match (&authorization.authentication, &peer.tls) {
            (Authentication::Unauthenticated, _) => true,
            (Authentication::TlsUnauthenticated, tls) => *tls != PeerTls::Disabled,
            (Authentication::TlsAuthenticated { identities, suffixes }, PeerTls::Identity(id)) => {
                identities.iter().any(|want| want == id)
                    || suffixes.iter().any(|suffix| id.ends_with(&**suffix))
            }
            (Authentication::TlsAuthenticated { .. }, PeerTls::NoIdentity | PeerTls::Disabled) => false,
        }
}

fn contains(network: &Network, ip: IpAddr) -> bool {
    network.net.contains(&ip) && !network.except.iter().any(|except| except.contains(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Meta;

    fn meta(name: &str) -> Meta {
        let (empty, kind) = ("".into(), "test".into());
        Meta {
            group: Arc::clone(&empty),
            kind,
            namespace: empty.clone(),
            name: name.into(),
            port: None,
            section: empty,
        }
    }

    fn authorization(authentication: Authentication) -> Authorization {
        let net = "0.0.0.0/0".parse().unwrap();
        Authorization {
            meta: meta("a"),
            networks: vec![Network { net, except: vec![] }],
            authentication,
            audit: false,
        }
    }

    fn identities(names: &[&str], suffixes: &[&str]) -> Authentication {
        let arcs = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        Authentication::TlsAuthenticated { identities: arcs(names), suffixes: arcs(suffixes) }
    }

    fn from(tls: PeerTls) -> Peer {
        Peer::new(tls, "::ffff:10.0.0.9".parse().unwrap())
    }

    fn meshed(id: &str) -> Peer {
        from(PeerTls::Identity(id.into()))
    }

    fn check(what: &str, authentication: Authentication, peer: &Peer, want: bool) {
        assert_eq!(allows(&authorization(authentication), peer), want, "{what}");
    }

    #[test]
    fn authentication_is_what_it_says() {
        let (plain, anonymous) = (from(PeerTls::Disabled), from(PeerTls::NoIdentity));
        check("anybody", Authentication::Unauthenticated, &plain, true);
        check("TLS, and none", Authentication::TlsUnauthenticated, &plain, false);
        check("TLS, without a name", Authentication::TlsUnauthenticated, &anonymous, true);
        check("any name, and none", identities(&[], &[""]), &anonymous, false);
        check("any name", identities(&[], &[""]), &meshed("a.b"), true);
        check("the name", identities(&["a.b"], &[]), &meshed("a.b"), true);
        check("a dot is no pattern", identities(&["a.b"], &[]), &meshed("axb"), false);
        check("case counts", identities(&["a.b"], &[]), &meshed("A.b"), false);
        check("a suffix", identities(&[], &[".ns.x"]), &meshed("a.ns.x"), true);
        check("no name is a suffix of another label", identities(&[], &[".ns.x"]), &meshed("a.ans.x"), false);
    }

    #[test]
    fn networks_have_exceptions() {
        let mut authorization = authorization(Authentication::Unauthenticated);
        let peer = from(PeerTls::Disabled);
        authorization.networks[0].except.push("10.0.0.8/29".parse().unwrap());
        assert!(!allows(&authorization, &peer));
    }

    #[test]
    fn an_audit_is_the_last_resort() {
        let audit = Authorization {
            audit: true,
            meta: meta("audit"),
            ..authorization(Authentication::Unauthenticated)
        };
        let real = Authorization { meta: meta("real"), ..authorization(Authentication::Unauthenticated) };
        let peer = from(PeerTls::Disabled);
        let found = first(std::slice::from_ref(&audit), &peer).map(|a| &*a.meta.name);
        assert_eq!(found, Some("audit"));
        let both = [audit, real];
        assert_eq!(first(&both, &peer).map(|a| &*a.meta.name), Some("real"));
    }
}
