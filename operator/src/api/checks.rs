//! What `mesh check` prints: each check is one thing that should be so, what was found, and what to do.

use super::{
    directory::NodeId,
    flows::{Flow, Flows},
    mesh::{Mesh, Proxies},
    overview::{ANCHOR_SHORT_S, CERTIFICATE_SHORT_S},
    reason,
};
use crate::telemetry::{Proxy, Snapshot, Usage};
use mesh_api::check::{Check, CheckList, Outcome};
use mesh_policy::{Diagnostic, Severity};
use std::collections::BTreeMap;

/// Findings that are listed per check; the rest is counted.
const MAX_FINDINGS: usize = 20;

/// What the checks look at beside traffic.
#[derive(Clone, Debug)]
pub struct Facts {
    pub usage: Usage,
    /// Streams that proxies, or others, were refused.
    pub refused_streams: u64,
    pub trust_anchor_s: u64,
    pub issuer_s: u64,
    /// How long a proxy's certificate is valid.
    pub leaf_s: u64,
    /// The operator's own.
    pub version: String,
    /// Workloads whose Pods should have a proxy and have none.
    pub unmeshed: Vec<Diagnostic>,
    /// Ports that one side forwards unread and the other does not.
    pub half_opaque: Vec<String>,
    pub uptime_s: u64,
}

pub fn checks(
    mesh: &Mesh,
    diagnostics: &[Diagnostic],
    snapshot: &Snapshot,
    flows: &Flows,
    facts: &Facts,
    now_ms: u64,
) -> CheckList {
    let calls = calls(flows);
    let mut checks = vec![
        configuration(diagnostics),
        routes(mesh),
        backends(mesh),
        unmeshed(facts),
        proxies(mesh, snapshot, facts, now_ms),
        streams(facts),
        trust_anchor(facts),
        issuer(facts),
        certificates(mesh, snapshot, now_ms),
        versions(mesh, snapshot, facts),
        opaque_ports(facts),
        plaintext(&calls),
        denials(&calls, snapshot.window_s),
        telemetry(facts),
        uptime(facts),
    ];
    checks.sort_by_key(|a| rank(&a.group));
    CheckList { checks }
}

fn rank(group: &str) -> usize {
    ["configuration", "routes", "identity", "data plane", "telemetry"]
        .iter()
        .position(|g| *g == group)
        .unwrap_or(9)
}

fn check(group: &str, name: &str, bad: Outcome, mut findings: Vec<String>, remedy: &str) -> Check {
    let well = findings.is_empty();
    if findings.len() > MAX_FINDINGS {
        let more = findings.len() - MAX_FINDINGS;
        findings.truncate(MAX_FINDINGS);
        findings.push(format!("and {more} more"));
    }
    Check {
        group: group.into(),
        name: name.into(),
        outcome: if well { Outcome::Pass } else { bad },
        findings,
        remedy: if well { String::new() } else { remedy.into() },
    }
}

fn configuration(diagnostics: &[Diagnostic]) -> Check {
    let worst = diagnostics.iter().map(|diagnostic| diagnostic.severity).max();
    let bad = if worst == Some(Severity::Error) { Outcome::Fail } else { Outcome::Warn };
    let findings = diagnostics.iter().map(ToString::to_string).collect();
    check(
        "configuration",
        "every manifest is valid",
        bad,
        findings,
        "correct the named objects; until then the last good configuration stays in force",
    )
}

fn routes(mesh: &Mesh) -> Check {
    let mut findings = Vec::new();
    for route in &mesh.routes {
        for parent in &route.parents {
            for condition in &parent.conditions {
                if condition.kind == "Accepted" && !condition.status {
                    findings.push(format!(
                        "{} {}/{} on {}: {} ({})",
                        route.kind,
                        route.namespace,
                        route.name,
                        parent.parent,
                        condition.message,
                        condition.reason
                    ));
                }
            }
        }
    }
    check(
        "routes",
        "every route is accepted by its parents",
        Outcome::Fail,
        findings,
        "name an existing Service and port in parentRefs",
    )
}

fn backends(mesh: &Mesh) -> Check {
    let mut findings = Vec::new();
    for route in &mesh.routes {
        for backend in route.rules.iter().flat_map(|rule| &rule.backends) {
            if let Some(problem) = &backend.problem {
                findings.push(format!(
                    "{} {}/{}: {}: {problem}",
                    route.kind, route.namespace, route.name, backend.name
                ));
            }
        }
    }
    check(
        "routes",
        "every backend of a route can serve",
        Outcome::Fail,
        findings,
        "create the Service, or take it out of backendRefs: its share of the requests fails",
    )
}

/// Right after the operator's own start, proxies have not had the time to find it again.
const GRACE_S: u64 = 20;

fn proxies(mesh: &Mesh, snapshot: &Snapshot, facts: &Facts, now_ms: u64) -> Check {
    let heard = Proxies::of(snapshot);
    let mut findings = Vec::new();
    for pod in mesh.directory.pods().iter().filter(|pod| pod.meshed) {
        match heard.get(&pod.namespace, &pod.name) {
            None if facts.uptime_s < GRACE_S => {}
            None => findings.push(format!("{}/{}: has not reported", pod.namespace, pod.name)),
            Some(proxy) if proxy.is_silent(now_ms) => findings.push(format!(
                "{}/{}: silent for {} s",
                pod.namespace,
                pod.name,
                now_ms.saturating_sub(proxy.last_seen_ms) / 1000
            )),
            Some(_) => {}
        }
    }
    check(
        "data plane",
        "every proxy reports",
        Outcome::Warn,
        findings,
        "see whether the pod runs and its proxy reaches the operator: its log says what it waits for",
    )
}

fn unmeshed(facts: &Facts) -> Check {
    check(
        "data plane",
        "every Pod that should have a proxy has one",
        Outcome::Warn,
        facts.unmeshed.iter().map(ToString::to_string).collect(),
        "restart the named workloads, or let the operator do it: mesh.dev/reconcile: restart on their Namespace",
    )
}

fn streams(facts: &Facts) -> Check {
    let refused = (facts.refused_streams > 0).then(|| {
        format!(
            "{} were refused since the operator started",
            reason::counted(facts.refused_streams, "stream")
        )
    });
    check(
        "data plane",
        "no client of the operator opens too many streams",
        Outcome::Warn,
        refused.into_iter().collect(),
        "the operator's log names the peer: a proxy needs some per destination, a thousand is something else",
    )
}

fn certificates(mesh: &Mesh, snapshot: &Snapshot, now_ms: u64) -> Check {
    let mut findings = Vec::new();
    let mut bad = Outcome::Warn;
    for proxy in present(mesh, snapshot).filter(|proxy| !proxy.is_silent(now_ms)) {
        let Some(expires_s) = proxy.certificate_expires_s else { continue };
        let left_s = expires_s.saturating_sub(now_ms / 1000);
        // A short life is only odd where the mesh hands out longer ones, so an hour must not be the rule itself.
        let life_s = expires_s.saturating_sub(proxy.start_ms / 1000);
        if left_s == 0 {
            bad = Outcome::Fail;
            findings.push(format!("{}/{}: expired", proxy.namespace, proxy.pod));
        } else if left_s < CERTIFICATE_SHORT_S.min(life_s / 10) {
            findings.push(format!("{}/{}: ends in {} min", proxy.namespace, proxy.pod, left_s / 60));
        }
    }
    check(
        "identity",
        "every certificate is renewed in time",
        bad,
        findings,
        "see the proxy's log for why certification fails; the operator's names refused requests",
    )
}

/// Those whose Pods are still there.
fn present<'a>(mesh: &'a Mesh, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a Proxy> {
    snapshot.proxies.iter().filter(|proxy| mesh.directory.pod(&proxy.namespace, &proxy.pod).is_some())
}

fn versions(mesh: &Mesh, snapshot: &Snapshot, facts: &Facts) -> Check {
    let others =
        present(mesh, snapshot).filter(|proxy| !proxy.version.is_empty() && proxy.version != facts.version);
    let findings = others.map(|proxy| {
        format!("{}/{} is {}, the operator is {}", proxy.namespace, proxy.pod, proxy.version, facts.version)
    });
    check(
        "data plane",
        "every proxy is of the operator's version",
        Outcome::Warn,
        findings.collect(),
        "restart the workloads when it suits: new Pods get the newer proxy, and versions next to each other work together",
    )
}

fn opaque_ports(facts: &Facts) -> Check {
    check(
        "data plane",
        "ports are opaque on both sides",
        Outcome::Warn,
        facts.half_opaque.clone(),
        "annotate Service and Pods with the same mesh.dev/opaque-ports: who reads waits for a request's first bytes, and who does not has no requests",
    )
}

fn issuer(facts: &Facts) -> Check {
    let finding = match facts.issuer_s {
        0 => Some("the issuer has expired, and signs nothing".to_owned()),
        s if s < facts.leaf_s => {
            Some(format!("the issuer ends in {} h, before the certificates that it is to sign", s / 3_600))
        }
        _ => None,
    };
    check(
        "identity",
        "the issuer outlives the certificates that it signs",
        if facts.issuer_s == 0 { Outcome::Fail } else { Outcome::Warn },
        finding.into_iter().collect(),
        "the operator renews its own by itself, and its log says what keeps it; another's is renewed by who made the Secret",
    )
}

fn trust_anchor(facts: &Facts) -> Check {
    let left_s = facts.trust_anchor_s;
    let bad = if left_s == 0 { Outcome::Fail } else { Outcome::Warn };
    let finding = match left_s {
        0 => Some("the trust anchor has expired".to_owned()),
        s if s < ANCHOR_SHORT_S => Some(format!("the trust anchor ends in {} days", s / 86_400)),
        _ => None,
    };
    check(
        "identity",
        "the trust anchor is valid for more than 30 days",
        bad,
        finding.into_iter().collect(),
        "on a cluster: `mesh identity rotate` changes to a new root without a restart",
    )
}

/// Who called whom, by whatever Service.
fn calls(flows: &Flows) -> BTreeMap<(&NodeId, &NodeId), Flow> {
    let mut calls: BTreeMap<_, Flow> = BTreeMap::new();
    for (ends, flow) in &flows.between {
        calls.entry((&ends.from, &ends.to)).or_default().merge(flow.clone());
    }
    calls
}

fn plaintext(calls: &BTreeMap<(&NodeId, &NodeId), Flow>) -> Check {
    let findings = calls
        .iter()
        // Kubelet's probes and what comes from outside have no proxy; policy says whether they may.
        .filter(|((from, _), flow)| !matches!(from, NodeId::Outside(_)) && flow.tally.has_plaintext())
        .map(|((from, to), flow)| {
            let plain = 100.0 * (1.0 - flow.tally.mtls().unwrap_or(1.0));
            format!("{} to {}: {plain:.0} % in plaintext", from.spoken(), to.spoken())
        })
        .collect();
    check(
        "data plane",
        "all traffic between workloads is encrypted",
        Outcome::Warn,
        findings,
        "mesh the client (annotation mesh.dev/inject: enabled), or refuse plaintext with the policy mesh-only",
    )
}

fn denials(calls: &BTreeMap<(&NodeId, &NodeId), Flow>, window_s: u32) -> Check {
    let findings = calls
        .iter()
        .filter(|(_, flow)| flow.denied > 0)
        .map(|((from, to), flow)| {
            let (denials, window) = (reason::counted(flow.denied, "denial"), reason::window_words(window_s));
            format!("{} to {}: {denials} in {window}", from.spoken(), to.spoken())
        })
        .collect();
    check(
        "data plane",
        "no request is denied by policy",
        Outcome::Warn,
        findings,
        "`mesh authz` says which policy decides and why; change it if the client is welcome",
    )
}

fn telemetry(facts: &Facts) -> Check {
    let usage = &facts.usage;
    let mut findings = Vec::new();
    let mut say = |count: u64, what: &str| {
        if count > 0 {
            findings.push(format!("{count} {what} since the operator started"));
        }
    };
    say(
        usage.dropped.over_series_limit,
        "points of new series were dropped: the store or a proxy is at its bound",
    );
    say(usage.dropped.evicted_series, "idle series made room for new ones");
    say(usage.dropped.invalid, "points could not be read");
    say(usage.limited_spans, "spans were refused: their sender sent too many");
    say(usage.foreign, "points and spans were refused: they named another Pod than their sender's");
    say(usage.forward_lost, "messages were not forwarded");
    if usage.series * 10 > usage.max_series * 9 {
        findings.push(format!("{} of at most {} series are in use", usage.series, usage.max_series));
    }
    check(
        "telemetry",
        "everything that is reported is kept",
        Outcome::Warn,
        findings,
        "look for a label with many values, or a sender that is not a proxy of this mesh",
    )
}

fn uptime(facts: &Facts) -> Check {
    let words = match facts.uptime_s {
        s if s < 120 => format!("{s} s"),
        s if s < 7_200 => format!("{} min", s / 60),
        s => format!("{} h", s / 3_600),
    };
    let mut check = check("telemetry", "the operator runs", Outcome::Pass, Vec::new(), "");
    check.name = format!("the operator has been running for {words}");
    check
}
