//! The first page: totals, what needs attention, every workload.

use super::{
    flows::Flows,
    graph::drawn,
    mesh::{Mesh, Proxies},
    reason,
    tally::Tally,
    workloads,
};
use crate::telemetry::Snapshot;
use mesh_api::{
    health::Health,
    overview::{Attention, Overview},
    workload::WorkloadRow,
};
use mesh_policy::{Diagnostic, Severity};
use std::collections::BTreeSet;

const MAX_ATTENTION: usize = 5;
/// A leaf is renewed at 70 % of its life, so one with less than this left was not renewed for hours.
pub const CERTIFICATE_SHORT_S: u64 = 3_600;
/// Replacing an anchor takes a release of everything that trusts it.
pub const ANCHOR_SHORT_S: u64 = 30 * 86_400;

/// What the overview says beside traffic.
#[derive(Clone, Debug, Default)]
pub struct About {
    pub version: String,
    pub cluster: String,
    pub trust_anchor_s: Option<u64>,
}

pub fn overview(
    mesh: &Mesh,
    diagnostics: &[Diagnostic],
    snapshot: &Snapshot,
    flows: &Flows,
    about: About,
    now_ms: u64,
) -> Overview {
    let mut total = Tally::default();
    for tally in flows.received.values() {
        total.merge(tally);
    }
    let mut workloads = workloads::list(mesh, snapshot, flows, &[], now_ms).workloads;
    workloads.sort_by(|a, b| {
        let rank = |row: &WorkloadRow| (row.health, row.golden.requests);
        rank(b).cmp(&rank(a)).then_with(|| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)))
    });
    let certificates = snapshot.proxies.iter().filter(|proxy| !proxy.is_silent(now_ms));
    Overview {
        at_ms: snapshot.at_ms,
        window_s: snapshot.window_s,
        total: total.golden(snapshot.covered_s),
        mtls: total.mtls(),
        proxies: certificates.clone().count() as u32,
        proxies_expected: mesh.directory.pods().iter().filter(|pod| pod.meshed).count() as u32,
        shortest_certificate_s: certificates
            .filter_map(|proxy| proxy.certificate_expires_s)
            .min()
            .map(|expires_s| expires_s.saturating_sub(now_ms / 1000)),
        trust_anchor_s: about.trust_anchor_s,
        attention: attention(mesh, diagnostics, snapshot, flows, &workloads, &about, now_ms),
        workloads,
        version: about.version,
        cluster: about.cluster,
    }
}

/// Worst first. Each is said once: a failing workload is not repeated by its edges.
fn attention(
    mesh: &Mesh,
    diagnostics: &[Diagnostic],
    snapshot: &Snapshot,
    flows: &Flows,
    workloads: &[WorkloadRow],
    about: &About,
    now_ms: u64,
) -> Vec<Attention> {
    let mut found = Vec::new();
    let mut add = |health, sentence: String, link: String| found.push(Attention { health, sentence, link });

    for row in workloads.iter().filter(|row| row.health >= Health::Degraded) {
        let link = format!("/workloads/{}/{}", row.namespace, row.name);
        add(row.health, format!("{}/{}: {}", row.namespace, row.name, row.reason), link);
    }
    for diagnostic in diagnostics {
        let health = match diagnostic.severity {
            Severity::Error => Health::Failing,
            Severity::Warning => continue,
        };
        add(health, diagnostic.to_string(), "/checks".into());
    }
    let edges = drawn(mesh, flows, &flows.split_services());
    for ((from, to), edge) in &edges {
        let golden = edge.flow.tally.golden(snapshot.covered_s);
        let link = format!("/graph?sel={from}>{to}");
        let ends_are_well = workloads
            .iter()
            .filter(|row| row.namespace == to.namespace() && row.name == to.name())
            .all(|row| row.health < Health::Degraded);
        if Health::of(&golden) >= Health::Degraded && ends_are_well {
            let why = reason::of_errors(&golden, &edge.flow.tally, snapshot.window_s, "");
            add(Health::of(&golden), format!("{} to {}: {why}", from.name(), to.name()), link.clone());
        }
        if edge.flow.denied > 0 {
            let requests = reason::counted(edge.flow.denied, "request");
            let window = reason::window_words(snapshot.window_s);
            add(
                Health::Degraded,
                format!("policy denied {requests} from {} to {} in {window}", from.name(), to.name()),
                link,
            );
        }
    }
    let proxies = Proxies::of(snapshot);
    let silent: BTreeSet<String> = mesh
        .directory
        .pods()
        .iter()
        .filter(|pod| {
            pod.meshed && proxies.get(&pod.namespace, &pod.name).is_none_or(|proxy| proxy.is_silent(now_ms))
        })
        .map(|pod| format!("{}/{}", pod.namespace, pod.name))
        .collect();
    if let Some(first) = silent.first() {
        let sentence = match silent.len() {
            1 => format!("the proxy of {first} does not report"),
            n => format!("{n} proxies do not report, {first} among them"),
        };
        add(Health::Unknown, sentence, "/checks".into());
    }
    if let Some(left_s) = about.trust_anchor_s.filter(|left_s| *left_s < ANCHOR_SHORT_S) {
        add(Health::Degraded, format!("the trust anchor ends in {} days", left_s / 86_400), "/checks".into());
    }
    // Stable: among equals the order above stays.
    found.sort_by_key(|attention| std::cmp::Reverse(attention.health));
    found.truncate(MAX_ATTENTION);
    found
}
