//! Where a client's requests and connections may go: what is told to an outbound proxy. Types only; [`crate::Tables::outbound`]
//! computes them.

use crate::{Endpoint, Meta, PortProtocol};
use serde::{Serialize, Serializer};
use std::{net::SocketAddr, time::Duration};

/// What a proxy asks about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Addr(SocketAddr),
    Authority(crate::Authority),
}

impl Target {
    /// The Service, by namespace and name, whose endpoints decide what there is to do: one of a Pod's name. Elsewhere it is the same
    /// whatever endpoints there are.
    pub fn endpoints_of(&self) -> Option<(&str, &str)> {
        match self {
            Target::Authority(authority) if authority.host.is_some() => {
                Some((&authority.namespace, &authority.service))
            }
            Target::Authority(_) | Target::Addr(_) => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Policy {
    /// A Service's port.
    Service(ServicePolicy),
    /// One address: a Pod's, with its identity, or one that we know nothing about.
    Forward(Forward),
    /// A Service's address with a port that the Service does not have.
    UndefinedPort { port: u16 },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forward {
    /// `pod` or `egress-fallback`.
    pub meta: Meta,
    pub endpoint: Endpoint,
    pub opaque: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServicePolicy {
    pub meta: Meta,
    pub protocol: PortProtocol,
    pub routes: Routes,
    pub failure_accrual: Option<Accrual>,
    /// Where everything goes that no route governs.
    pub backend: Backend,
}

/// The routes of the one kind that governs a port.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Routes {
    /// HTTP routes; without any of the user's, one default route to the Service itself.
    Http(Vec<Route>),
    Grpc(Vec<Route>),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    pub meta: Meta,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// Any of them; never empty.
    pub matches: Vec<Match>,
    pub filters: Vec<Filter>,
    pub backends: Vec<WeightedBackend>,
    pub timeouts: Timeouts,
    pub retry: Option<Retry>,
}

/// All conditions hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Match {
    Http(HttpMatch),
    Grpc(GrpcMatch),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpMatch {
    pub path: PathMatch,
    pub headers: Vec<NamedMatch>,
    pub query: Vec<NamedMatch>,
    pub method: Option<String>,
}

impl HttpMatch {
    /// Takes every request that `other` takes, as far as can be told without one.
    pub fn covers(&self, other: &HttpMatch) -> bool {
        self.path.covers(&other.path)
            && (self.method.is_none() || self.method == other.method)
            && self.headers.iter().all(|own| other.headers.contains(own))
            && self.query.iter().all(|own| other.query.contains(own))
    }
}

impl PathMatch {
    fn covers(&self, other: &PathMatch) -> bool {
        let PathMatch::Prefix(prefix) = self else { return self == other };
        let prefix = prefix.trim_end_matches('/');
        match other {
            PathMatch::Exact(path) | PathMatch::Prefix(path) => {
                path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            PathMatch::Regex(_) => prefix.is_empty(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMatch {
    Exact(String),
    Prefix(String),
    Regex(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedMatch {
    pub name: String,
    pub value: ValueMatch,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueMatch {
    Exact(String),
    Regex(String),
}

/// Empty texts match everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrpcMatch {
    pub service: String,
    pub method: String,
    pub headers: Vec<NamedMatch>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    RequestHeaders(HeaderModifier),
    ResponseHeaders(HeaderModifier),
    Redirect(Redirect),
    /// Answers every request with this HTTP status.
    Fail {
        status: u16,
        message: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeaderModifier {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirect {
    pub scheme: Option<String>,
    pub host: Option<String>,
    pub path: Option<PathModifier>,
    pub port: Option<u16>,
    pub status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathModifier {
    Full(String),
    Prefix(String),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightedBackend {
    /// Never zero.
    pub weight: u32,
    pub backend: Backend,
    pub filters: Vec<Filter>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Balanced over a Service's endpoints, which are looked up by `authority`.
    Service { meta: Meta, authority: String },
    /// Cannot serve: its share of the requests fails with 500 and this reason.
    Invalid { meta: Meta, reason: String },
}

/// Consecutive failures set an endpoint aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accrual {
    pub max_failures: u32,
    #[serde(serialize_with = "text")]
    pub min_penalty: Duration,
    #[serde(serialize_with = "text")]
    pub max_penalty: Duration,
}

/// `None` means no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// All tries included.
    #[serde(serialize_with = "optional_text")]
    pub request: Option<Duration>,
    /// One try.
    #[serde(serialize_with = "optional_text")]
    pub backend_request: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Retries, not tries; never zero.
    pub limit: u32,
    pub on: RetryOn,
    /// How long one try may take until the next starts.
    #[serde(serialize_with = "optional_text")]
    pub timeout: Option<Duration>,
    /// The shortest wait between tries.
    #[serde(serialize_with = "text")]
    pub backoff: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RetryOn {
    /// Inclusive ranges of HTTP statuses.
    Statuses(Vec<(u16, u16)>),
    Grpc(Vec<GrpcCondition>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrpcCondition {
    Cancelled,
    DeadlineExceeded,
    Internal,
    ResourceExhausted,
    Unavailable,
}

fn text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{}ms", duration.as_millis()))
}

fn optional_text<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => text(duration, serializer),
        None => serializer.serialize_none(),
    }
}
