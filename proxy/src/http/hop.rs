//! Headers that are for one connection only (RFC 9110 §7.6.1): taken off before a message goes on.

use super::{check::Seen, error::Kind};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What a request asks of the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Another protocol after the answer: `Upgrade` and its `Connection` are still there.
    pub upgrade: bool,
}

/// Leaves `Transfer-Encoding` to whoever knows the next version.
pub fn request<B>(req: &mut Request<B>, seen: &Seen) -> Result<Asks, Kind> {
    let headers = req.headers_mut();
    let mut asks = Asks::default();
    if seen.connection {
        // Cleartext HTTP/2 by upgrade is how requests are smuggled past proxies; nobody needs it.
        asks.upgrade = seen.upgrade
            && lists(headers, "upgrade")
            && !headers.get_all(header::UPGRADE).iter().any(|value| contains(value, "h2c"));
        remove_listed(headers)?;
    }
    if seen.hop {
        let trailers = headers.get_all(header::TE).iter().any(|value| contains(value, "trailers"));
        headers.remove(header::TE);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        headers.remove(KEEP_ALIVE);
        headers.remove(PROXY_CONNECTION);
        headers.remove(HTTP2_SETTINGS);
        if asks.upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        } else {
            headers.remove(header::UPGRADE);
        }
    }
    if seen.expect {
        // hyper answers 100 as soon as the body is asked for, which is when it is sent on.
        let continues =
            headers.get(header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if continues {
            headers.remove(header::EXPECT);
        }
    }
    Ok(asks)
}

/// Takes off a response what is the server connection's.
pub fn response(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        // A server that lists framing headers is taken at its framing, not at its word.
        let _ = remove_listed(headers);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(header::UPGRADE);
}

fn remove_listed(headers: &mut HeaderMap) -> Result<(), Kind> {
    // `remove` takes all lines of the name and returns the first, so they are collected before.
    let lines: Vec<HeaderValue> = headers.get_all(header::CONNECTION).iter().cloned().collect();
    headers.remove(header::CONNECTION);
    for listed in lines {
        for name in listed.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            let lower = name.to_ascii_lowercase();
            match lower.as_slice() {
                b"" | b"close" | b"keep-alive" | b"te" | b"upgrade" => {}
                // Without these the message would be another one.
                b"host" | b"content-length" | b"transfer-encoding" | b"connection" | b"trailer" => {
                    return Err(Kind::BadRequest);
                }
                lower => {
                    if let Ok(name) = HeaderName::from_bytes(lower) {
                        headers.remove(name);
                    }
                }
            }
        }
    }
    Ok(())
}

fn lists(headers: &HeaderMap, token: &str) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|value| contains(value, token))
}

fn contains(list: &HeaderValue, token: &str) -> bool {
    list.as_bytes().split(|&b| b == b',').any(|item| {
        // `trailers;q=0.5` is still `trailers`.
        let item = item.split(|&b| b == b';').next().unwrap_or_default();
        item.trim_ascii().eq_ignore_ascii_case(token.as_bytes())
    })
}
