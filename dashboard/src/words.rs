//! What is said about health, the same words on each page.

use crate::format;
use mesh_api::{
    golden::Golden,
    graph::{EdgeMetrics, NodeKind, Protocol},
    health::{DEGRADED_BELOW, FAILING_BELOW, Health, MIN_REQUESTS},
};

/// The style class that colours something by its health.
pub const fn class(health: Health) -> &'static str {
    match health {
        Health::Idle => "idle",
        Health::Healthy => "ok",
        Health::Unknown => "unknown",
        Health::Degraded => "warn",
        Health::Failing => "bad",
    }
}

/// The class of a success figure; empty while it is well, because only the bad number is coloured.
pub fn success_class(golden: &Golden) -> &'static str {
    let Some(success) = golden.success else { return "" };
    match success {
        _ if golden.requests < MIN_REQUESTS => "",
        s if s < FAILING_BELOW => "bad",
        s if s < DEGRADED_BELOW => "warn",
        _ => "",
    }
}

/// `Failing.`, as the start of a sentence.
pub fn capital(health: Health) -> String {
    let word = health.word();
    word[..1].to_uppercase() + &word[1..]
}

pub const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "HTTP",
        Protocol::Grpc => "gRPC",
        Protocol::Tcp => "TCP",
    }
}

pub const fn kind(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Workload => "workload",
        NodeKind::Service => "service",
        NodeKind::External => "outside the mesh",
    }
}

/// Whether something ran here unencrypted.
pub fn is_plaintext(edge: &EdgeMetrics) -> bool {
    edge.mtls.is_some_and(|share| share < 1.0)
}

/// `8 of 9 edges encrypted`, over the edges that carried something.
pub fn encrypted_edges<'a>(edges: impl Iterator<Item = &'a EdgeMetrics>) -> String {
    let (mut used, mut encrypted) = (0, 0);
    for share in edges.filter_map(|edge| edge.mtls) {
        used += 1;
        encrypted += u64::from(share >= 1.0);
    }
    if used == 0 {
        return "no traffic yet".into();
    }
    format!("{encrypted} of {} encrypted", format::count(used, "edge"))
}

/// The failures of a window, most frequent first: `25 × 500, 3 × connect-error (by the mesh)`.
pub fn failures(golden: &Golden) -> String {
    let one = |f: &mesh_api::golden::Failure| {
        let by = if f.by_mesh { " (by the mesh)" } else { "" };
        format!("{} × {}{by}", format::thousands(f.count), f.cause)
    };
    golden.failures.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The sentence under a heading when the operator had none to give: it gives one only for what is not well.
pub fn well(health: Health, golden: &Golden) -> String {
    match health {
        Health::Idle => "Nothing ran in this window.".into(),
        Health::Unknown => "Not in the mesh, or its proxy has been silent for more than 15 s.".into(),
        Health::Healthy if golden.requests == 0 => "No requests in this window.".into(),
        Health::Healthy => {
            format!(
                "{} of {} succeeded.",
                format::share(golden.success).text(),
                format::count(golden.requests, "request")
            )
        }
        Health::Degraded | Health::Failing => failures(golden),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::golden::Failure;

    fn edge(mtls: Option<f64>) -> EdgeMetrics {
        EdgeMetrics {
            health: Health::Healthy,
            reason: String::new(),
            protocol: Protocol::Http,
            golden: Golden::default(),
            tcp: None,
            mtls,
            observed: None,
            wanted: None,
            denied: 0,
        }
    }

    #[test]
    fn the_legend_counts_edges_that_carried_something() {
        let edges = [edge(Some(1.0)), edge(Some(0.99)), edge(None)];
        assert_eq!(encrypted_edges(edges.iter()), "1 of 2 edges encrypted");
        assert_eq!(encrypted_edges([edge(None)].iter()), "no traffic yet");
        assert_eq!(encrypted_edges([edge(Some(1.0))].iter()), "1 of 1 edge encrypted");
    }

    #[test]
    fn few_requests_are_not_judged() {
        let golden = |requests| Golden { requests, success: Some(0.5), ..Golden::default() };
        assert_eq!(success_class(&golden(4)), "");
        assert_eq!(success_class(&golden(5)), "bad");
    }

    #[test]
    fn failures_say_who_made_them() {
        let failure = |cause: &str, count, by_mesh| Failure { cause: cause.into(), count, by_mesh };
        let golden = Golden {
            failures: vec![failure("500", 25, false), failure("connect-error", 3, true)],
            ..Golden::default()
        };
        assert_eq!(failures(&golden), "25 × 500, 3 × connect-error (by the mesh)");
    }
}
