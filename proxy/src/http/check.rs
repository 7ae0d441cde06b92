//! Is this one request, to all who might read it? What two parsers could read differently is refused, not repaired
//! (RFC 9112 §11). What hyper has refused already does not come here; what only the raw bytes show is `gate`'s.
//!
//! One pass over the headers finds everything that this module and `hop` care about.

use super::error::Kind;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version, header, uri::Authority};

/// Documented limit; more is answered 431.
pub const MAX_HEADERS: usize = 100;

/// What the one pass saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub hosts: u8,
    pub connection: bool,
    /// `Keep-Alive`, `Proxy-Connection`, `TE`, `Upgrade`, `HTTP2-Settings`: belong to one hop.
    pub hop: bool,
    pub upgrade: bool,
    pub transfer_encoding: bool,
    pub content_length: bool,
    pub expect: bool,
    /// A name that belongs to the mesh, or looks as if to a careless server.
    pub reserved: bool,
    pub cookies: u8,
}

/// Checks the request and says what it saw.
pub fn request<B>(req: &Request<B>) -> Result<Seen, Kind> {
    let h2 = req.version() == Version::HTTP_2;
    let seen = headers(req.headers(), h2)?;
    target(req)?;
    if seen.hosts > 1 {
        return Err(Kind::BadRequest);
    }
    let host = match seen.hosts {
        0 => None,
        _ => req.headers().get(header::HOST),
    };
    match (req.uri().authority(), host) {
        (None, None) if req.version() >= Version::HTTP_11 => return Err(Kind::BadRequest),
        (None, None) => {}
        (None, Some(host)) => valid_host(host.as_bytes())?,
        (Some(authority), None) => {
            valid_host(authority.as_str().as_bytes())?;
            if !h2 {
                return Err(Kind::BadRequest);
            }
        }
        (Some(authority), Some(host)) => {
            valid_host(authority.as_str().as_bytes())?;
            valid_host(host.as_bytes())?;
            // In HTTP/1 an absolute target overrules `Host` (RFC 9112 §3.2.2); HTTP/2 knows no such rule.
            if h2 && !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) {
                return Err(Kind::BadRequest);
            }
        }
    }
    Ok(seen)
}

fn headers(headers: &HeaderMap, h2: bool) -> Result<Seen, Kind> {
    let mut seen = Seen::default();
    for (name, value) in headers {
        let (name, value) = (name.as_str(), value.as_bytes());
        match name {
            "host" => seen.hosts = seen.hosts.saturating_add(1),
            "connection" => seen.connection = true,
            "te" | "keep-alive" | "proxy-connection" | "http2-settings" => seen.hop = true,
            "upgrade" => (seen.upgrade, seen.hop) = (true, true),
            "expect" => seen.expect = true,
            "cookie" => seen.cookies = seen.cookies.saturating_add(1),
            "content-length" => {
                if seen.content_length || !canonical_length(value) {
                    return Err(Kind::BadRequest);
                }
                seen.content_length = true;
            }
            "transfer-encoding" => {
                if seen.transfer_encoding {
                    return Err(Kind::BadRequest);
                }
                transfer_encoding(value)?;
                seen.transfer_encoding = true;
            }
            _ => seen.reserved |= reserved(name),
        }
        // RFC 9113 §8.2.1; the HTTP/1 parser has trimmed them.
        if h2 && (blank(value.first()) || blank(value.last())) {
            return Err(Kind::BadRequest);
        }
    }
    match seen.transfer_encoding && (seen.content_length || h2) {
        true => Err(Kind::BadRequest),
        false => Ok(seen),
    }
}

fn blank(b: Option<&u8>) -> bool {
    matches!(b, Some(b' ' | b'\t'))
}

/// Digits without a sign, blank or leading zero: what everybody reads the same.
pub(super) fn canonical_length(value: &[u8]) -> bool {
    match value {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() < 19 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Only `chunked`, once. Another coding before it would have to be undone; that is not for a proxy to do.
pub(super) fn transfer_encoding(value: &[u8]) -> Result<(), Kind> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let codings: Vec<&[u8]> = value.split(|&b| b == b',').map(<[u8]>::trim_ascii).collect();
    let chunked = codings.iter().filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count();
    let known = |coding: &&[u8]| {
        [b"gzip".as_slice(), b"x-gzip", b"deflate", b"compress", b"x-compress", b"chunked"]
            .iter()
            .any(|known| coding.eq_ignore_ascii_case(known))
    };
    match codings.len() > 1 && chunked == 1 && codings.iter().all(known) {
        true => Err(Kind::NotImplemented),
        false => Err(Kind::BadRequest),
    }
}

/// `l5d-…` is the mesh's, and `l5d_…` becomes the same in servers that turn names into variables (CGI, WSGI). So is the
/// header by which other meshes hand on a client's certificate.
fn reserved(name: &str) -> bool {
    match name.as_bytes() {
        [b'l', b'5', b'd', b'-' | b'_', ..] => true,
        [b'x', b'-' | b'_', ..] => same(name, CLIENT_CERT),
        _ => false,
    }
}

const CLIENT_CERT: &str = "x-forwarded-client-cert";

/// The same name, to somebody who takes `_` for `-`.
fn same(name: &str, other: &str) -> bool {
    name.len() == other.len()
        && name.bytes().zip(other.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
}

/// Removes the mesh's own names, whoever sent them.
pub fn remove_reserved(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| reserved(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn target<B>(req: &Request<B>) -> Result<(), Kind> {
    let uri = req.uri();
    let connect = req.method() == Method::CONNECT;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(_)) => {}
        // Only HTTP/2 says the scheme of a request that is not for a proxy.
        (Some("https"), Some(_)) if req.version() == Version::HTTP_2 => {}
        (Some(_), _) => return Err(Kind::BadRequest),
        // A tunnel is younger than HTTP/1.0, whose connections end with the answer.
        (None, Some(_)) if connect && req.version() >= Version::HTTP_11 => return Ok(()),
        (None, Some(_)) => return Err(Kind::BadRequest),
        (None, None) if connect => return Err(Kind::BadRequest),
        (None, None) => {}
    }
    match uri.path() {
        "*" if req.method() == Method::OPTIONS => Ok(()),
        path if path.starts_with('/') => Ok(()),
        _ => Err(Kind::BadRequest),
    }
}

/// `host[:port]` and nothing else: no user, no path, no blank, no escape (RFC 9110 §7.2).
fn valid_host(host: &[u8]) -> Result<(), Kind> {
    let (name, port) = match host {
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|&b| b == b']').ok_or(Kind::BadRequest)?;
            let (address, port) = (&rest[..end], &rest[end + 1..]);
            if address.is_empty()
                || !address.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
            {
                return Err(Kind::BadRequest);
            }
            match port {
                [] => return Ok(()),
                [b':', port @ ..] => (address, Some(port)),
                _ => return Err(Kind::BadRequest),
            }
        }
        _ => match host.iter().position(|&b| b == b':') {
            Some(colon) => (&host[..colon], Some(&host[colon + 1..])),
            None => (host, None),
        },
    };
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'~');
    if name.is_empty() || name.len() > 255 || !name.iter().all(plain) {
        return Err(Kind::BadRequest);
    }
    let Some(port) = port else { return Ok(()) };
    let number = port.iter().try_fold(0u32, |n, b| {
        b.is_ascii_digit().then(|| n.saturating_mul(10).saturating_add(u32::from(b - b'0')))
    });
    match number {
        Some(n) if port.len() <= 5 && n <= 65_535 => Ok(()),
        Some(_) | None => Err(Kind::BadRequest),
    }
}

/// Can a path be matched as it stands? Servers undo dot segments, escapes and parameters each in its own way, so a path that is told
/// apart by its prefix must have none that lead elsewhere. Asked only where somebody matches paths; other paths pass unread.
pub fn unambiguous_path(path: &str) -> Result<(), Kind> {
    let bytes = path.as_bytes();
    if memchr::memchr2(b'%', b'\\', bytes).is_none() && memchr::memmem::find(bytes, b"/.").is_none() {
        return Ok(());
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        at += 1;
        if b != b'%' {
            decoded.push(if b == b'\\' { return Err(Kind::BadRequest) } else { b });
            continue;
        }
        let escape = bytes.get(at..at + 2).and_then(|hex| std::str::from_utf8(hex).ok());
        match escape.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            None | Some(0) => return Err(Kind::BadRequest),
            // Only what could make a dot segment is of interest.
            Some(b'\\') => decoded.push(b'/'),
            Some(b) => decoded.push(b),
        }
        at += 2;
    }
    let dots = |segment: &[u8]| matches!(segment.split(|&b| b == b';').next(), Some(b"." | b".."));
    match decoded.split(|&b| b == b'/').any(dots) {
        true => Err(Kind::BadRequest),
        false => Ok(()),
    }
}

/// The authority that a checked request is for: of its target, else of `Host`.
pub fn authority<B>(req: &Request<B>) -> Option<&[u8]> {
    match req.uri().authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => req.headers().get(header::HOST).map(HeaderValue::as_bytes),
    }
}

/// For tests and logs: the authority as `http` has it.
pub fn parsed_authority<B>(req: &Request<B>) -> Option<Authority> {
    authority(req).and_then(|bytes| Authority::try_from(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row T8.
    #[test]
    fn a_path_that_leads_elsewhere_is_ambiguous() {
        for path in [
            "/a/../admin",
            "/a/./b",
            "/..",
            "/a/%2e%2e/admin",
            "/a/.%2E/b",
            "/a/..;x=y/b",
            "/a/..%2fadmin",
            "/a\\b",
            "/a%5c..%5cb",
            "/a%00",
            "/a%zz",
            "/a%",
            "/a%4",
        ] {
            assert_eq!(unambiguous_path(path), Err(Kind::BadRequest), "{path}");
        }
        for path in ["/", "/a/b", "/a.b/..c/.d", "/a%20b", "/a;x=y", "//a", "/a%2fb", "/...", "/*"] {
            assert_eq!(unambiguous_path(path), Ok(()), "{path}");
        }
    }
}
