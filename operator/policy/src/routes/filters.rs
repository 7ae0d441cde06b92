//! Filters of rules and of backendRefs.

use crate::{
    gateway::{self, Filter as Written},
    outbound::{Filter, HeaderModifier, PathModifier, Redirect},
};

pub fn http(written: &[Written]) -> Result<Vec<Filter>, String> {
    read(written, true)
}

/// gRPC requests are not redirected, and the API has no word for changing their responses' headers.
pub fn grpc(written: &[Written]) -> Result<Vec<Filter>, String> {
    read(written, false)
}

fn read(written: &[Written], http: bool) -> Result<Vec<Filter>, String> {
    if written.len() > 16 {
        return Err("there are at most 16 filters".into());
    }
    let mut filters = vec![];
    for (number, filter) in written.iter().enumerate() {
        if written[..number].iter().any(|before| before.kind == filter.kind) {
            return Err(format!("filter {} stands there twice", filter.kind));
        }
        let missing = || format!("filter {} lacks its settings", filter.kind);
        filters.push(match filter.kind.as_str() {
            "RequestHeaderModifier" => {
                Filter::RequestHeaders(headers(filter.request_header_modifier.as_ref().ok_or_else(missing)?)?)
            }
            "ResponseHeaderModifier" => Filter::ResponseHeaders(headers(
                filter.response_header_modifier.as_ref().ok_or_else(missing)?,
            )?),
            "RequestRedirect" if http => {
                Filter::Redirect(redirect(filter.request_redirect.as_ref().ok_or_else(missing)?)?)
            }
            other => return Err(format!("filter {other:?} is not supported")),
        });
    }
    Ok(filters)
}

fn headers(written: &gateway::HeaderModifier) -> Result<HeaderModifier, String> {
    let mut seen = vec![];
    let mut read = HeaderModifier::default();
    for (from, to) in [(&written.set, &mut read.set), (&written.add, &mut read.add)] {
        for header in from {
            let name = once(&header.name, &mut seen)?;
            let allowed = |b: u8| b == b'\t' || (b >= b' ' && b != 0x7f);
            if !header.value.bytes().all(allowed) {
                return Err(format!("value of header {name} has control characters"));
            }
            to.push((name, header.value.clone()));
        }
    }
    for name in &written.remove {
        read.remove.push(once(name, &mut seen)?);
    }
    Ok(read)
}

fn once(name: &str, seen: &mut Vec<String>) -> Result<String, String> {
    let name = header_name(name)?;
    if seen.contains(&name) {
        return Err(format!("header {name} is modified twice"));
    }
    seen.push(name.clone());
    Ok(name)
}

/// In lower case.
pub fn header_name(name: &str) -> Result<String, String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 256 || !name.bytes().all(token) {
        return Err(format!("{name:?} is no header name"));
    }
    Ok(name.to_ascii_lowercase())
}

fn redirect(written: &gateway::Redirect) -> Result<Redirect, String> {
    let scheme = written.scheme.clone();
    if let Some(scheme) = scheme.as_deref().filter(|scheme| !matches!(*scheme, "http" | "https")) {
        return Err(format!("redirect scheme {scheme:?} is unknown (want http or https)"));
    }
    let host_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if let Some(host) =
        written.hostname.as_deref().filter(|host| host.is_empty() || !host.bytes().all(host_byte))
    {
        return Err(format!("redirect hostname {host:?} is no host name"));
    }
    let port = written.port.map(|port| {
        u16::try_from(port).ok().filter(|port| *port > 0).ok_or(format!("redirect port {port} is none"))
    });
    let status = written.status_code.unwrap_or(302);
    let status = u16::try_from(status).ok().filter(|status| [301, 302, 303, 307, 308].contains(status));
    let path = match &written.path {
        None => None,
        Some(path) => Some(match (path.kind.as_str(), &path.replace_full_path, &path.replace_prefix_match) {
            ("ReplaceFullPath", Some(full), None) => PathModifier::Full(full.clone()),
            ("ReplacePrefixMatch", None, Some(prefix)) => PathModifier::Prefix(prefix.clone()),
            (kind, _, _) => {
                return Err(format!("redirect path of type {kind:?} lacks its value or is unknown"));
            }
        }),
    };
    Ok(Redirect {
        scheme,
        host: written.hostname.clone(),
        path,
        port: port.transpose()?,
        status: status.ok_or("redirect statusCode is none of 301, 302, 303, 307, 308")?,
    })
}
