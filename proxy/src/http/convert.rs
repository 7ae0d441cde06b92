//! From one version's form of a message to the other's.

use super::check::Seen;
use crate::http::body::RequestBody;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::Body;

pub const ORIG_PROTO: HeaderName = HeaderName::from_static(mesh_api::names::ORIG_PROTO_HEADER);

/// To HTTP/2: the authority goes into the target.
pub fn to_h2(req: &mut Request<RequestBody>, authority: &Authority) {
    let version = std::mem::replace(req.version_mut(), Version::HTTP_2);
    if version == Version::HTTP_2 {
        return;
    }
    let path = path_of(req.uri());
    *req.uri_mut() = absolute(authority.clone(), path);
    let headers = req.headers_mut();
    headers.remove(header::HOST);
    headers.remove(header::TRANSFER_ENCODING);
}

/// To HTTP/1.1: the authority goes into `Host`, split cookies together, and a body of unknown length is chunked.
pub fn to_h1(req: &mut Request<RequestBody>, seen: &Seen) {
    let version = std::mem::replace(req.version_mut(), Version::HTTP_11);
    if req.method() == Method::CONNECT {
        // Its target is an authority in either version.
        return;
    }
    if let Some(authority) = req.uri().authority() {
        // An absolute target overrules what `Host` said.
        let host = HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII");
        let target = Uri::from(path_of(req.uri()));
        *req.uri_mut() = target;
        req.headers_mut().insert(header::HOST, host);
    }
    if version != Version::HTTP_2 {
        return;
    }
    let unknown_length = !req.body().is_end_stream() && !seen.content_length;
    let headers = req.headers_mut();
    if seen.cookies > 1 {
        join_cookies(headers);
    }
    if unknown_length {
        // hyper takes a GET without it for one without a body, and drops what there is.
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

fn path_of(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"))
}

fn absolute(authority: Authority, path: PathAndQuery) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).expect("scheme, authority and path make a URI")
}

/// RFC 9113 §8.2.3.
fn join_cookies(headers: &mut HeaderMap) {
    let mut joined = Vec::new();
    for crumb in headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    let joined = HeaderValue::from_bytes(&joined).expect("joined from valid values");
    headers.insert(header::COOKIE, joined);
}

/// A server's response, as the client's connection may carry it. `reusable` comes back false if the server's framing was
/// ambiguous.
pub fn response<B>(res: &mut Response<B>) -> bool {
    let mut reusable = true;
    if res.version() < Version::HTTP_2 {
        super::hop::response(res.headers_mut());
        if res.headers().contains_key(header::TRANSFER_ENCODING) {
            // Framing anew is hyper's; both at once would be anyone's guess (RFC 9112 §6.3).
            reusable = res.headers_mut().remove(header::CONTENT_LENGTH).is_none();
            res.headers_mut().remove(header::TRANSFER_ENCODING);
        }
    }
    *res.version_mut() = Version::HTTP_11;
    reusable
}
