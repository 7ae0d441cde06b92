//! What a rule's filters do to a request before it goes on, or instead.

use super::{
    body::ResponseBody,
    error::{self, Dialect, Kind},
    route::Found,
};
use crate::policy::http::{Filter, HeaderModifier, PathModifier, Ratio, Redirect};
use http::{HeaderMap, HeaderValue, Request, Response, header, uri::Scheme};

/// An answer in the server's place, and its cause for the metrics; a redirect has none: it is what was wanted.
pub type Answer = (Response<ResponseBody>, Option<Kind>);

/// Applies the request's side of the filters, in order.
pub fn request<B>(
    filters: &[Filter],
    req: &mut Request<B>,
    found: Found,
    port: Option<u16>,
) -> Result<(), Box<Answer>> {
    for filter in filters {
        match filter {
            Filter::RequestHeaders(change) => modify(change, req.headers_mut()),
            Filter::ResponseHeaders(_) => {}
            Filter::Redirect(redirect) => {
                return Err(Box::new((redirected(redirect, req, found, port), None)));
            }
            Filter::FailHttp { status, message, ratio } if happens(*ratio) => {
                let res =
                    error::respond(Dialect::of(req), *status, grpc_code(status.as_u16()), message, false);
                return Err(Box::new((res, Some(Kind::Injected))));
            }
            Filter::FailGrpc { code, message, ratio } if happens(*ratio) => {
                let dialect = Dialect { grpc: true, ..Dialect::of(req) };
                let res = error::respond(dialect, Kind::Injected.status(), *code, message, false);
                return Err(Box::new((res, Some(Kind::Injected))));
            }
            Filter::FailHttp { .. } | Filter::FailGrpc { .. } => {}
            Filter::Forbidden => {
                let res = error::response(Kind::Forbidden, Dialect::of(req));
                return Err(Box::new((res, Some(Kind::Forbidden))));
            }
        }
    }
    Ok(())
}

/// The response's side.
pub fn response(filters: &[Filter], headers: &mut HeaderMap) {
    for filter in filters {
        match filter {
            Filter::ResponseHeaders(change) => modify(change, headers),
            Filter::RequestHeaders(_)
            | Filter::Redirect(_)
            | Filter::FailHttp { .. }
            | Filter::FailGrpc { .. }
            | Filter::Forbidden => {}
        }
    }
}

fn modify(change: &HeaderModifier, headers: &mut HeaderMap) {
    for (name, value) in &change.set {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in &change.add {
        headers.append(name.clone(), value.clone());
    }
    for name in &change.remove {
        headers.remove(name);
    }
}

fn happens(ratio: Ratio) -> bool {
    ratio.numerator > 0 && fastrand::u32(..ratio.denominator) < ratio.numerator
}

/// gRPC's own mapping of HTTP statuses (grpc/doc/http-grpc-status-mapping.md).
fn grpc_code(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

fn redirected<B>(
    redirect: &Redirect,
    req: &Request<B>,
    found: Found,
    port: Option<u16>,
) -> Response<ResponseBody> {
    let mut res = Response::new(ResponseBody::empty());
    *res.status_mut() = redirect.status;
    res.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    match HeaderValue::from_str(&location(redirect, req, found, port)) {
        Ok(location) => drop(res.headers_mut().insert(header::LOCATION, location)),
        Err(_) => return error::response(Kind::Policy, Dialect::of(req)),
    }
    res
}

fn location<B>(redirect: &Redirect, req: &Request<B>, found: Found, port: Option<u16>) -> String {
    let authority = super::check::parsed_authority(req);
    let host = match (&redirect.host, &authority) {
        (Some(host), _) => host.as_str(),
        (None, Some(authority)) => authority.host(),
        (None, None) => "",
    };
    let scheme = redirect.scheme.clone().unwrap_or(Scheme::HTTP);
    let well_known = if scheme == Scheme::HTTPS { 443 } else { 80 };
    // A scheme in the rule brings its own port, unless the rule names one; else the Service's stays.
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(_)) => well_known,
        (None, None) => port.unwrap_or(well_known),
    };
    let shown_port = if port == well_known { String::new() } else { format!(":{port}") };
    let path = req.uri().path();
    let path = match &redirect.path {
        None => path.to_owned(),
        Some(PathModifier::ReplaceFull(full)) => full.clone(),
        Some(PathModifier::ReplacePrefix(new)) => replace_prefix(path, found.prefix_bytes.unwrap_or(0), new),
    };
    let query = req.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{host}{shown_port}{path}{query}")
}

/// Gateway API's table: the rest of the path follows, with exactly one slash between.
fn replace_prefix(path: &str, prefix_bytes: usize, new: &str) -> String {
    let rest = path.get(prefix_bytes..).unwrap_or("").trim_start_matches('/');
    let new = new.trim_end_matches('/');
    match (rest.is_empty(), new.is_empty(), path.len() > prefix_bytes) {
        (true, true, _) => "/".to_owned(),
        (true, false, true) => format!("{new}/"),
        (true, false, false) => new.to_owned(),
        (false, ..) => format!("{new}/{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn a_prefix_is_replaced_as_gateway_api_says() {
        for (path, prefix, new, want) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo/bar", "", "/xyz", "/xyz/foo/bar"),
        ] {
            assert_eq!(replace_prefix(path, prefix.len(), new), want, "{path} {new}");
        }
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_name() {
        let found = Found { route: 0, rule: 0, prefix_bytes: None };
        let req = Request::get("/a?b=c").header("host", "web:8080").body(()).unwrap();
        let plain = Redirect { scheme: None, host: None, path: None, port: None, status: StatusCode::FOUND };
        assert_eq!(location(&plain, &req, found, Some(8080)), "http://web:8080/a?b=c");
        let https = Redirect { scheme: Some(Scheme::HTTPS), host: Some("x.y".into()), ..plain };
        assert_eq!(location(&https, &req, found, Some(8080)), "https://x.y/a?b=c");
    }
}
