//! From the name in a request to what is asked of the control plane.

use crate::policy::outbound::Target;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// Where a request that names its own destination wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub target: Target,
    /// As it was written, for DNS, should the mesh not know the name.
    pub host: Arc<str>,
    pub port: u16,
}

/// `details`, `details.ns`, `details.ns.svc`, each with an optional port, become `details.ns.svc.cluster.local:80`; addresses
/// stay addresses. `namespace` and `suffix` (`svc.cluster.local`) complete short names.
pub fn parse(authority: &str, namespace: &str, suffix: &str, default_port: u16) -> Option<Destination> {
    let (host, port) = split(authority, default_port)?;
    let lower = host.trim_end_matches('.').to_ascii_lowercase();
    if let Ok(ip) = lower.parse::<IpAddr>() {
        let target = Target::Addr(SocketAddr::new(ip, port));
        return Some(Destination { target, host: lower.into(), port });
    }
    let (svc, _) = suffix.split_once('.').unwrap_or((suffix, ""));
    let full = match lower.split('.').collect::<Vec<_>>()[..] {
        [name] => format!("{name}.{namespace}.{suffix}"),
        [_, _] => format!("{lower}.{suffix}"),
        [_, _, last] if last == svc => format!("{}.{suffix}", &lower[..lower.len() - svc.len() - 1]),
        _ => lower.clone(),
    };
    Some(Destination { target: Target::Authority(format!("{full}:{port}").into()), host: lower.into(), port })
}

/// Brackets stand around an IPv6 address, and nowhere else (RFC 3986 §3.2.2).
fn split(authority: &str, default_port: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            ip.parse::<Ipv6Addr>().ok()?;
            (ip, if port.is_empty() { port } else { port.strip_prefix(':')? })
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    let port = match port {
        "" => default_port,
        port => port.parse().ok().filter(|port| *port != 0)?,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed() {
        for (authority, want) in [
            ("details", "details.book.svc.cluster.local:80"),
            ("details:9080", "details.book.svc.cluster.local:9080"),
            ("Details.Other", "details.other.svc.cluster.local:80"),
            ("details.other.svc", "details.other.svc.cluster.local:80"),
            ("details.other.svc.cluster.local", "details.other.svc.cluster.local:80"),
            ("A.B.:80", "a.b.svc.cluster.local:80"),
            ("web-0.web.other.svc.cluster.local:1", "web-0.web.other.svc.cluster.local:1"),
            ("api.example.com", "api.example.com:80"),
        ] {
            let got = parse(authority, "book", "svc.cluster.local", 80).unwrap();
            assert_eq!(got.target, Target::Authority(want.into()), "{authority}");
        }
    }

    #[test]
    fn addresses_stay_addresses() {
        for (authority, want) in [
            ("127.0.1.5:9080", "127.0.1.5:9080"),
            ("[::1]", "[::1]:80"),
            ("[::1]:", "[::1]:80"),
            ("[FD00::1]:9080", "[fd00::1]:9080"),
            ("10.0.0.1", "10.0.0.1:80"),
        ] {
            let got = parse(authority, "book", "svc.cluster.local", 80).unwrap();
            assert_eq!(got.target, Target::Addr(want.parse().unwrap()));
        }
    }

    #[test]
    fn refuses_what_is_no_port_and_brackets_around_anything_else() {
        for authority in [
            "a:0",
            "a:x",
            "a:70000",
            ":80",
            "",
            "a:b:80",
            "[::1:80",
            "::1]:80",
            "::1:80",
            "::1",
            "[::1]80",
            "[::1]]:80",
            "[[::1]]",
            "[]",
            "[]:80",
            "[10.0.0.1]",
            "[a]",
            "[::1.]:80",
        ] {
            assert_eq!(parse(authority, "n", "svc.cluster.local", 80), None, "{authority}");
        }
    }
}
