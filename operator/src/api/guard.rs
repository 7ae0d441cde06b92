//! Who may talk to this server from within a browser: only pages that this server itself served, under a name that it knows.
//! Against DNS rebinding (`Host`), reading across origins (`Origin`, `Sec-Fetch-Site`), framing and injected scripts.

use super::refusal::{Refusal, quoted};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::net::IpAddr;

/// Names under which the server may be addressed, besides loopback and the address it listens on.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    pub listen: Option<IpAddr>,
    pub allowed: Vec<String>,
}

/// No inline script, no foreign source, no frame. WebAssembly needs `wasm-unsafe-eval`, which allows nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// Refuses what no page of ours and no command line would send.
pub fn check(hosts: &Hosts, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let host = one(headers, "host")?.ok_or_else(|| Refusal::bad_request("the Host header is missing"))?;
    if !hosts.knows(name_of(host)) {
        return Err(Refusal::forbidden(format!(
            "host {} is not allowed: start the operator with --dashboard-allowed-host to serve it under that name",
            quoted(name_of(host))
        )));
    }
    if let Some(origin) = one(headers, "origin")? {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
            return Err(Refusal::forbidden(format!(
                "origin {} may not read from this server",
                quoted(origin)
            )));
        }
    }
    // A link from elsewhere may open a page; nothing else may come from another site.
    let opens_page = !path.starts_with("/api/") && one(headers, "sec-fetch-mode")? == Some("navigate");
    match one(headers, "sec-fetch-site")? {
        None | Some("same-origin" | "none") => {}
        Some(_) if opens_page => {}
        Some(site) => {
            return Err(Refusal::forbidden(format!(
                "{} requests may not read from this server",
                quoted(site)
            )));
        }
    }
    if *method != Method::GET && *method != Method::HEAD {
        let error = format!("{method} is not allowed: everything here is read by GET");
        return Err(Refusal { status: StatusCode::METHOD_NOT_ALLOWED, error });
    }
    Ok(())
}

/// Adds the headers that every answer carries.
pub fn protect(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

impl Hosts {
    fn knows(&self, name: &str) -> bool {
        if name.eq_ignore_ascii_case("localhost")
            || self.allowed.iter().any(|host| host.eq_ignore_ascii_case(name))
        {
            return true;
        }
        let ip: Option<IpAddr> = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
        ip.is_some_and(|ip| ip.is_loopback() || Some(ip) == self.listen)
    }
}

/// A header that may be there once and must be readable.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value
                .to_str()
                .map_err(|_| Refusal::bad_request(format!("the {name} header is not readable")))?;
            Ok(Some(text))
        }
        (Some(_), Some(_)) => Err(Refusal::bad_request(format!("there is more than one {name} header"))),
    }
}

/// `Host` without its port. Any port is right: a port-forward chooses its own.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') =>
        {
            name
        }
        _ => host,
    }
}
