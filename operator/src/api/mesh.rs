//! What policy knows of the mesh, in the form that the views read: made once for each new set of tables.

use super::{
    directory::{Directory, NodeId},
    routes::{RuleKey, keys_of_rule},
    sight::Sight,
};
use crate::telemetry::{Proxy, Snapshot};
use mesh_api::route::{Route, Rule};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Mesh {
    pub directory: Directory,
    /// Every route with its figures empty.
    pub routes: Vec<Route>,
    /// Workloads behind each backend of a route, by its name (`bookinfo/reviews-v1:9080`).
    pub behind: BTreeMap<String, Vec<NodeId>>,
}

impl Mesh {
    /// The share of a Service's requests that its routes ask to go to each workload: of each rule the weights, and of the
    /// rules as many requests as took each of them. Nothing where that is not known.
    pub fn wanted(&self, service: &NodeId, taken: &BTreeMap<RuleKey, u64>) -> BTreeMap<NodeId, f64> {
        let routes = self.routes.iter().filter(|route| is_parent(route, service));
        let rules: Vec<(u64, &Rule)> = routes
            .flat_map(|route| {
                let requests = |i| keys_of_rule(route, i).filter_map(|key| taken.get(&key)).sum();
                route.rules.iter().enumerate().map(move |(i, rule)| (requests(i), rule))
            })
            .collect();
        let whole: u64 = rules.iter().map(|(requests, _)| requests).sum();
        let mut wanted = BTreeMap::new();
        for (requests, rule) in &rules {
            let part = match (whole, rules.len()) {
                (0, 1) => 1.0,
                (0, _) => return BTreeMap::new(),
                (whole, _) => *requests as f64 / whole as f64,
            };
            for backend in &rule.backends {
                let [only] = self.behind.get(&backend.name).map_or(&[][..], Vec::as_slice) else { continue };
                *wanted.entry(only.clone()).or_default() += part * backend.wanted;
            }
        }
        wanted.into_iter().map(|(node, share): (_, f64)| (node, (share * 1e4).round() / 1e4)).collect()
    }
}

/// Whether a route governs a Service: it names it as its parent and was accepted there.
fn is_parent(route: &Route, service: &NodeId) -> bool {
    let name = format!("Service {}/{}", service.namespace(), service.name());
    route.parents.iter().any(|parent| {
        let named = parent.parent == name
            || parent.parent.strip_prefix(&name).is_some_and(|rest| rest.starts_with(':'));
        named && parent.conditions.iter().all(|condition| condition.kind != "Accepted" || condition.status)
    })
}

/// How a workload's proxies stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporting {
    /// No Pod of it is meshed.
    NotMeshed,
    Never,
    /// Milliseconds since the last report.
    Silent(u64),
    Live,
}

/// What the proxies of a snapshot say of themselves, by pod.
pub struct Proxies<'a>(BTreeMap<(&'a str, &'a str), &'a Proxy>);

impl<'a> Proxies<'a> {
    pub fn of(snapshot: &'a Snapshot) -> Proxies<'a> {
        Proxies(
            snapshot
                .proxies
                .iter()
                .map(|proxy| ((proxy.namespace.as_str(), proxy.pod.as_str()), proxy))
                .collect(),
        )
    }

    pub fn get(&self, namespace: &str, pod: &str) -> Option<&'a Proxy> {
        self.0.get(&(namespace, pod)).copied()
    }

    /// A workload is as well heard as the best of its pods.
    pub fn reporting(&self, directory: &Directory, node: &NodeId, now_ms: u64) -> Reporting {
        let Some(workload) = directory.workload(node) else {
            // Gone from policy; what its proxies report is still theirs.
            return if matches!(node, NodeId::Outside(_)) { Reporting::NotMeshed } else { Reporting::Live };
        };
        if workload.meshed_pods == 0 {
            return Reporting::NotMeshed;
        }
        let last_seen = directory
            .pods_of(workload)
            .filter_map(|pod| self.get(&pod.namespace, &pod.name))
            .map(|proxy| (proxy.is_silent(now_ms), now_ms.saturating_sub(proxy.last_seen_ms)))
            .min();
        match last_seen {
            None => Reporting::Never,
            Some((true, ms)) => Reporting::Silent(ms),
            Some((false, _)) => Reporting::Live,
        }
    }
}

impl Mesh {
    /// As far as it is seen.
    pub fn of(tables: &mesh_policy::Tables, sight: &Sight) -> Mesh {
        let pods =
            tables.pods().iter().filter(|pod| sight.sees(&pod.namespace)).map(|pod| super::directory::Pod {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                workload: pod.workload.clone(),
                app: pod.app.clone(),
                version: pod.version.clone(),
                ips: pod.ips.clone(),
                meshed: pod.meshed,
                identity: pod.identity.clone(),
            });
        let directory = Directory::new(pods.collect());
        let mut routes = tables.routes();
        routes.retain(|route| sight.sees(&route.namespace));
        let backends = routes.iter().flat_map(|route| &route.rules).flat_map(|rule| &rule.backends);
        let behind = backends
            .map(|backend| (backend.name.clone(), workloads_behind(tables, &directory, &backend.name)));
        Mesh { behind: behind.collect(), directory, routes }
    }
}

/// The workloads whose pods serve `namespace/service:port`.
fn workloads_behind(tables: &mesh_policy::Tables, directory: &Directory, backend: &str) -> Vec<NodeId> {
    let Some((namespace, service)) = backend.split_once('/') else { return Vec::new() };
    let (service, port) = service.rsplit_once(':').unwrap_or((service, ""));
    let authority = format!("{service}.{namespace}:{port}");
    let Ok(list) = tables.endpoints(&authority, |_| true) else { return Vec::new() };
    let addresses = list.endpoints.iter().filter_map(|endpoint| endpoint.addr.rsplit_once(':'));
    let mut workloads: Vec<NodeId> =
        addresses.map(|(ip, _)| directory.node_of_ip(ip.trim_matches(['[', ']']))).collect();
    workloads.sort();
    workloads.dedup();
    workloads
}
