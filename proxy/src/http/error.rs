//! Why the proxy answers instead of the application: one table from cause to HTTP status, gRPC status and metric label.

use super::body::ResponseBody;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};

pub const PROXY_ERROR: HeaderName = HeaderName::from_static(mesh_api::names::PROXY_ERROR_HEADER);
pub const PROXY_CONNECTION: HeaderName = HeaderName::from_static(mesh_api::names::PROXY_CONNECTION_HEADER);
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A cause. Closed, so that it can be a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two parsers could read the request differently, or none can.
    BadRequest,
    NotImplemented,
    UriTooLong,
    HeadersTooLarge,
    /// The request's head did not arrive in time.
    HeadTimeout,
    ClientBody,
    NoRoute,
    Unauthorized,
    Forbidden,
    RateLimited,
    /// The control plane's answer makes no sense, or it refuses the question.
    Policy,
    /// The rule has no backend, or one that the control plane could not name.
    NoBackend,
    /// An injected failure; its status is the route's.
    Injected,
    /// The control plane has not said yet what there is at the destination.
    Undiscovered,
    /// No endpoint for as long as a request may wait.
    FailFast,
    /// Too many requests wait for an endpoint already.
    LoadShed,
    RequestTimeout,
    /// Neither side has sent anything for as long as the rule allows.
    IdleTimeout,
    ConnectRefused,
    ConnectTimeout,
    /// The peer is not who it should be, or TLS failed otherwise.
    Tls,
    /// We have no certificate, and the peer takes no plaintext.
    NoIdentity,
    /// The server closed or reset without an answer.
    Reset,
    /// The server's answer is no HTTP.
    BadResponse,
    /// The request would come back to us.
    Loop,
    /// The name does not resolve.
    Dns,
}

impl Kind {
    /// Status and gRPC code (0 to 16), metric label, and what the client is told.
    const fn row(self) -> (u16, u16, &'static str, &'static str) {
        match self {
            Kind::BadRequest => (400, 13, "bad_request", "malformed request"),
            Kind::NotImplemented => (501, 12, "not_implemented", "transfer coding not supported"),
            Kind::UriTooLong => (414, 13, "uri_too_long", "request target too long"),
            Kind::HeadersTooLarge => (431, 8, "headers_too_large", "request headers too large"),
            Kind::HeadTimeout => (408, 4, "head_timeout", "request headers timed out"),
            Kind::ClientBody => (400, 1, "client_body", "malformed or incomplete request body"),
            Kind::NoRoute => (404, 12, "no_route", "no route for request"),
            Kind::Unauthorized => (403, 7, "unauthorized", "unauthorized client"),
            Kind::Forbidden => (403, 7, "forbidden", "forbidden by route"),
            Kind::RateLimited => (429, 8, "rate_limited", "rate limit exceeded"),
            Kind::Policy => (500, 13, "policy", "invalid policy"),
            Kind::NoBackend => (500, 14, "no_backend", "route has no valid backend"),
            Kind::Injected => (500, 14, "injected", "failure injected by route"),
            Kind::Undiscovered => {
                (503, 14, "undiscovered", "destination unknown: the control plane does not answer")
            }
            Kind::FailFast => (503, 14, "failfast", "no endpoint available"),
            Kind::LoadShed => (503, 14, "load_shed", "too many requests wait for an endpoint"),
            Kind::RequestTimeout => (504, 4, "timeout", "request timed out"),
            Kind::IdleTimeout => (504, 4, "idle_timeout", "nothing was sent for too long"),
            Kind::ConnectRefused => (502, 14, "connect_refused", "endpoint refused the connection"),
            Kind::ConnectTimeout => (504, 14, "connect_timeout", "connecting to the endpoint timed out"),
            Kind::Tls => (502, 14, "tls", "endpoint could not prove its identity"),
            Kind::NoIdentity => (503, 14, "no_identity", "no certificate yet"),
            Kind::Reset => (502, 14, "reset", "endpoint closed the connection"),
            Kind::BadResponse => (502, 14, "bad_response", "malformed response"),
            Kind::Loop => (508, 13, "loop", "request would loop"),
            Kind::Dns => (502, 14, "dns", "name does not resolve"),
        }
    }

    /// What the proxy beside a server says of its application, which the request never reached or which died over it.
    pub fn of_application(res: &HeaderMap) -> Option<Kind> {
        let said = res.get(PROXY_ERROR)?;
        [Kind::ConnectRefused, Kind::Reset].into_iter().find(|kind| said == kind.message())
    }

    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().0).expect("the table holds valid codes")
    }

    pub fn grpc_code(self) -> u16 {
        self.row().1
    }

    /// The metric label `error`.
    pub fn label(self) -> &'static str {
        self.row().2
    }

    pub fn message(self) -> &'static str {
        self.row().3
    }

    /// The connection is of no more use to the client: what it sends next could be misread.
    fn closes(self) -> bool {
        matches!(
            self,
            Kind::BadRequest
                | Kind::NotImplemented
                | Kind::UriTooLong
                | Kind::HeadersTooLarge
                | Kind::HeadTimeout
                | Kind::ClientBody
                | Kind::Loop
        )
    }
}

/// How the client wants to be told of an error.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    pub version: Version,
    pub grpc: bool,
}

impl Dialect {
    pub fn of<B>(req: &Request<B>) -> Dialect {
        let grpc = req
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        Dialect { version: req.version(), grpc }
    }
}

/// The answer for `kind`.
pub fn response(kind: Kind, dialect: Dialect) -> Response<ResponseBody> {
    respond(dialect, kind.status(), kind.grpc_code(), kind.message(), kind.closes())
}

/// An answer with a status of the policy's choice.
pub fn respond(
    dialect: Dialect,
    status: StatusCode,
    grpc_code: u16,
    message: &str,
    close: bool,
) -> Response<ResponseBody> {
    let message = HeaderValue::from_str(message).unwrap_or(HeaderValue::from_static("failed"));
    let mut res = Response::new(ResponseBody::empty());
    if dialect.grpc {
        // Trailers-only: a gRPC client reads the status from the headers.
        res.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        res.headers_mut().insert(GRPC_STATUS, HeaderValue::from(grpc_code));
        res.headers_mut().insert(GRPC_MESSAGE, percent_encoded(&message));
    } else {
        *res.status_mut() = status;
        res.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    res.headers_mut().insert(PROXY_ERROR, message);
    if close {
        res.headers_mut().insert(PROXY_CONNECTION, HeaderValue::from_static("close"));
        if dialect.version < Version::HTTP_2 {
            res.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    res
}

/// `grpc-message` is percent-encoded; ours are ASCII, those of a policy need not be.
fn percent_encoded(message: &HeaderValue) -> HeaderValue {
    let plain = |b: &u8| (b' '..=b'~').contains(b) && *b != b'%';
    if message.as_bytes().iter().all(plain) {
        return message.clone();
    }
    let mut out = Vec::new();
    for b in message.as_bytes() {
        match plain(b) {
            true => out.push(*b),
            false => out.extend_from_slice(format!("%{b:02X}").as_bytes()),
        }
    }
    HeaderValue::from_maybe_shared(Bytes::from(out)).unwrap_or(HeaderValue::from_static("failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_clients_get_a_grpc_status() {
        let grpc = Dialect { version: Version::HTTP_2, grpc: true };
        let res = response(Kind::Unauthorized, grpc);
        assert_eq!((res.status(), &res.headers()["grpc-status"]), (StatusCode::OK, &HeaderValue::from(7)));
    }

    #[test]
    fn an_ambiguous_request_ends_its_connection() {
        let res = response(Kind::BadRequest, Dialect { version: Version::HTTP_11, grpc: false });
        assert_eq!(
            (res.status().as_u16(), &res.headers()["connection"]),
            (400, &HeaderValue::from_static("close"))
        );
    }
}
