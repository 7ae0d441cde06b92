//! HTTP routes as policy: which requests a rule matches and what its filters do. Meaning and precedence: Gateway API HTTPRoute
//! and GRPCRoute. The decision itself is a pure function over these, shared by outbound and inbound.

use http::{HeaderName, HeaderValue, Method, StatusCode};
use std::{sync::Arc, time::Duration};

/// Matches on `Host`/`:authority`. Ignored on mesh parents by the operator; an empty list matches every host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    Exact(String),
    /// `*.example.com`: the labels after the star, without it.
    Suffix(String),
}

/// All conditions hold. The default matches everything.
#[derive(Clone, Debug, Default)]
pub struct RequestMatch {
    pub path: PathMatch,
    pub method: Option<Method>,
    pub headers: Vec<HeaderMatch>,
    pub query: Vec<QueryMatch>,
}

#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path, byte for byte.
    Exact(String),
    /// Whole path elements: `/v2` matches `/v2` and `/v2/x`, never `/v2x`.
    Prefix(String),
    /// Anchored at both ends.
    Regex(regex::Regex),
}

impl Default for PathMatch {
    fn default() -> Self {
        PathMatch::Prefix("/".into())
    }
}

#[derive(Clone, Debug)]
pub struct HeaderMatch {
    pub name: HeaderName,
    pub value: ValueMatch,
}

#[derive(Clone, Debug)]
pub struct QueryMatch {
    pub name: String,
    pub value: ValueMatch,
}

#[derive(Clone, Debug)]
pub enum ValueMatch {
    Exact(Vec<u8>),
    /// Anchored at both ends, over bytes.
    Regex(regex::bytes::Regex),
}

#[derive(Clone, Debug)]
pub enum Filter {
    RequestHeaders(HeaderModifier),
    ResponseHeaders(HeaderModifier),
    Redirect(Redirect),
    /// Answers instead of forwarding, for `numerator / denominator` of the requests.
    FailHttp {
        status: StatusCode,
        message: Arc<str>,
        ratio: Ratio,
    },
    /// The same with a gRPC status.
    FailGrpc {
        code: u16,
        message: Arc<str>,
        ratio: Ratio,
    },
    /// Refuses the request (HTTP 403) or the connection.
    Forbidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    pub numerator: u32,
    /// Never zero.
    pub denominator: u32,
}

#[derive(Clone, Debug, Default)]
pub struct HeaderModifier {
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
    pub remove: Vec<HeaderName>,
}

#[derive(Clone, Debug)]
pub struct Redirect {
    pub scheme: Option<http::uri::Scheme>,
    pub host: Option<String>,
    pub path: Option<PathModifier>,
    pub port: Option<u16>,
    /// 301 unless set.
    pub status: StatusCode,
}

#[derive(Clone, Debug)]
pub enum PathModifier {
    ReplaceFull(String),
    /// Replaces the prefix that the rule's match matched.
    ReplacePrefix(String),
}

/// When a request is tried again.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Retries, not tries.
    pub max_retries: u16,
    /// A longer body is not kept, so such a request is not tried again.
    pub max_request_bytes: usize,
    /// HTTP statuses, inclusive ranges.
    pub statuses: Vec<(u16, u16)>,
    /// gRPC codes.
    pub grpc_codes: Vec<u16>,
    /// How long one try may take until it counts as failed and the next starts.
    pub timeout: Option<Duration>,
    pub backoff: Option<Backoff>,
}

/// Exponential, with `jitter` as a share of the current step (0 to 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
    pub jitter: f32,
}

/// `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request's arrival to the response's end, all tries included.
    pub request: Option<Duration>,
    /// From the request's end to the response's end.
    pub response: Option<Duration>,
    /// One try.
    pub backend_request: Option<Duration>,
    /// Without a byte in either direction.
    pub idle: Option<Duration>,
}
