//! Who a piece of policy comes from: an object, or a default of ours.

use serde::Serialize;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Meta {
    /// Made up where no object says anything: `http`, `opaq`, `probe`, `mesh-only` …
    Default(&'static str),
    Resource(Resource),
}

/// An object that policy comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Resource {
    /// `core` for Kubernetes' own.
    pub group: &'static str,
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl Meta {
    pub fn service(namespace: &str, name: &str, port: u16) -> Meta {
        Meta::Resource(Resource {
            group: "core",
            kind: "Service",
            namespace: namespace.into(),
            name: name.into(),
            port: Some(port),
        })
    }

    pub fn route(kind: &'static str, namespace: &str, name: &str) -> Meta {
        Meta::Resource(Resource {
            group: crate::gateway::GROUP,
            kind,
            namespace: namespace.into(),
            name: name.into(),
            port: None,
        })
    }

    /// The kind is lower-case, as Linkerd's metrics have it.
    pub fn authorization(namespace: &str, name: &str) -> Meta {
        Meta::Resource(Resource {
            group: mesh_api::names::API_GROUP,
            kind: "authorizationpolicy",
            namespace: namespace.into(),
            name: name.into(),
            port: None,
        })
    }
}

/// `AuthorizationPolicy bookinfo/ratings`, `default mesh-only`.
impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Meta::Default(name) => write!(f, "default {name}"),
            Meta::Resource(Resource { kind, namespace, name, port, .. }) => {
                let kind = if *kind == "authorizationpolicy" { "AuthorizationPolicy" } else { kind };
                write!(f, "{kind} {namespace}/{name}")?;
                match port {
                    Some(port) => write!(f, ":{port}"),
                    None => Ok(()),
                }
            }
        }
    }
}
