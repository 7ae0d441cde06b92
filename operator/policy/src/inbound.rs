//! Who may call a Pod's port: what is told to an inbound proxy, and the one function that says what it means.

mod authz;
mod build;

use crate::{Meta, outbound::HttpMatch};
use ipnet::IpNet;
use serde::Serialize;
use std::net::IpAddr;

pub(crate) use authz::{Accounts, answer};
pub use build::faults;
pub(crate) use build::{Authorizations, Named, build, read};

/// What a port allows when no AuthorizationPolicy selects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultPolicy {
    AllowAll,
    /// Anybody with a certificate of this mesh.
    MeshOnly,
    Deny,
}

impl DefaultPolicy {
    pub const fn as_str(self) -> &'static str {
        match self {
            DefaultPolicy::AllowAll => "allow-all",
            DefaultPolicy::MeshOnly => "mesh-only",
            DefaultPolicy::Deny => "deny",
        }
    }

    pub fn parse(text: &str) -> Option<DefaultPolicy> {
        [DefaultPolicy::AllowAll, DefaultPolicy::MeshOnly, DefaultPolicy::Deny]
            .into_iter()
            .find(|p| p.as_str() == text)
    }
}

impl std::str::FromStr for DefaultPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        DefaultPolicy::parse(text).ok_or_else(|| "want allow-all, mesh-only or deny".to_owned())
    }
}

/// One port's policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Policy {
    /// Whose doing a refusal is: the AuthorizationPolicy that selects the port (the first by name), else the default.
    pub meta: Meta,
    /// Forwarded unread.
    pub opaque: bool,
    /// For every connection and request; any of them. The first that matches is the one that is recorded.
    pub authorizations: Vec<Authorization>,
    /// Requests that match any of these are also allowed by its own authorizations.
    pub routes: Vec<Route>,
}

/// Allows who comes from one of the networks and has proved what `authentication` demands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Authorization {
    pub meta: Meta,
    pub networks: Vec<Network>,
    pub authentication: Authentication,
    /// What this allows is recorded as what the policy in `meta` would refuse.
    pub audit: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    pub net: IpNet,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Authentication {
    /// Anybody, over anything.
    None,
    /// A certificate of this mesh, whoever's.
    AnyIdentity,
    /// A certificate with one of the names, or with a name that ends with one of the suffixes (leading dot included).
    Identities { names: Vec<String>, suffixes: Vec<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    pub meta: Meta,
    /// Any of them; never empty.
    pub matches: Vec<HttpMatch>,
    pub authorizations: Vec<Authorization>,
}

/// Somebody who connects.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// `None`: from anywhere, as far as the question goes.
    pub ip: Option<IpAddr>,
    /// From the certificate.
    pub identity: Option<&'a str>,
}

/// What becomes of a client's request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decision<'a> {
    Allowed(&'a Authorization),
    /// Allowed, although the policy in audit mode would not.
    Audited(&'a Authorization),
    Denied,
}

impl Policy {
    /// Says what a proxy does with `client`'s request on `route` (`None`: on no route of [`Policy::routes`], or no HTTP at all). A
    /// request that another route takes as well may be let in by that one, so here every route has a say that takes all of its.
    pub fn decide(&self, client: Client<'_>, route: Option<&Route>) -> Decision<'_> {
        let has_say = |own: &&Route| route.is_some_and(|route| own.meta == route.meta || own.covers(route));
        let added = self.routes.iter().filter(has_say).flat_map(|route| &route.authorizations);
        let mut allowing = self.authorizations.iter().chain(added).filter(|own| own.allows(client));
        // What only an audit allows is better allowed by one that means it.
        match (allowing.clone().find(|own| !own.audit), allowing.next()) {
            (Some(authorization), _) => Decision::Allowed(authorization),
            (None, Some(authorization)) => Decision::Audited(authorization),
            (None, None) => Decision::Denied,
        }
    }
}

impl Route {
    fn covers(&self, other: &Route) -> bool {
        other.matches.iter().all(|inner| self.matches.iter().any(|outer| outer.covers(inner)))
    }
}

impl Authorization {
    pub fn allows(&self, client: Client<'_>) -> bool {
        let from = match client.ip {
            Some(ip) => self.networks.iter().any(|network| network.contains(ip)),
            None => Network::everywhere().iter().all(|all| self.networks.contains(all)),
        };
        from && match (&self.authentication, client.identity) {
            (Authentication::None, _) => true,
            (Authentication::AnyIdentity, identity) => identity.is_some(),
            (Authentication::Identities { .. }, None) => false,
            (Authentication::Identities { names, suffixes }, Some(identity)) => {
                names.iter().any(|name| name == identity)
                    || suffixes.iter().any(|suffix| identity.ends_with(suffix.as_str()))
            }
        }
    }
}

impl Network {
    pub fn everywhere() -> Vec<Network> {
        let v4 = IpNet::new(IpAddr::from([0; 4]), 0).expect("0 is a prefix length");
        let v6 = IpNet::new(IpAddr::from([0u16; 8]), 0).expect("0 is a prefix length");
        vec![Network { net: v4, except: vec![] }, Network { net: v6, except: vec![] }]
    }

    fn contains(&self, ip: IpAddr) -> bool {
        self.net.contains(&ip) && !self.except.iter().any(|except| except.contains(&ip))
    }
}
