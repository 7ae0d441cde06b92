//! Reads a snapshot as traffic between workloads. The client's proxy is the truth for what it sends; the server's proxy
//! speaks for clients that have no proxy of ours.

use super::{
    directory::{Directory, NodeId},
    routes::{self, RuleKey},
    tally::Tally,
};
use crate::telemetry::{Label, Labels, Metric, Proxy, Snapshot};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Addresses outside the mesh that are shown one by one; with more, they are one node.
const MAX_OUTSIDE: usize = 16;
/// That one node, and whatever has no address that we know.
pub const OUTSIDE: &str = "outside";

/// From whom, by which Service (`ns/name`; empty where none was addressed), to whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    pub from: NodeId,
    pub service: Option<NodeId>,
    /// The Service itself where a request failed before a workload was chosen.
    pub to: NodeId,
}

/// Traffic of one pair of ends.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    pub tally: Tally,
    /// Identity in the server's certificate.
    pub server_identity: Option<String>,
    /// Identity in the client's certificate.
    pub client_identity: Option<String>,
    pub denied: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Flows {
    pub between: BTreeMap<Ends, Flow>,
    /// What each workload's own proxies received …
    pub received: BTreeMap<NodeId, Tally>,
    /// … and sent.
    pub sent: BTreeMap<NodeId, Tally>,
    /// Requests by the rule of a route that they took.
    pub by_rule: BTreeMap<RuleKey, u64>,
}

/// Finds the ends of a series; holds what that needs to know of the mesh.
pub struct Reader<'a> {
    directory: &'a Directory,
    /// Identities whose proxies report to us: what they send is known from themselves.
    reporting: HashSet<&'a str>,
}

impl<'a> Reader<'a> {
    pub fn new(directory: &'a Directory, proxies: &'a [Proxy]) -> Reader<'a> {
        let reporting =
            proxies.iter().map(|proxy| proxy.identity.as_str()).filter(|id| !id.is_empty()).collect();
        Reader { directory, reporting }
    }

    /// The workload whose proxy reports the series.
    pub fn reporter(&self, labels: &Labels<'_>) -> NodeId {
        self.directory.node_of_pod(labels.get(Label::Namespace), labels.get(Label::Pod))
    }

    /// `None` where the other side's report is the truth, or the ends are not known.
    pub fn ends(&self, labels: &Labels<'_>) -> Option<Ends> {
        if labels.get(Label::Other) == "true" {
            return None;
        }
        let reporter = self.reporter(labels);
        if labels.get(Label::Direction) == "outbound" {
            let service = service(labels);
            let to = match (labels.get(Label::DstNamespace), labels.get(Label::DstPod)) {
                ("", _) | (_, "") => service.clone().unwrap_or(NodeId::Outside(OUTSIDE.into())),
                (namespace, pod) => self.directory.node_of_pod(namespace, pod),
            };
            return Some(Ends { from: reporter, service, to });
        }
        let from = self.client(labels)?;
        Some(Ends { from, service: None, to: reporter })
    }

    /// Who sent what an inbound proxy reports, unless it tells us itself.
    fn client(&self, labels: &Labels<'_>) -> Option<NodeId> {
        match (labels.get(Label::ClientId), labels.get(Label::ClientIp)) {
            ("", "") => Some(NodeId::Outside(OUTSIDE.into())),
            ("", ip) => Some(self.directory.node_of_ip(ip)),
            (id, _) if self.reporting.contains(id) => None,
            (id, _) => Some(
                self.directory
                    .nodes_of_identity(id)
                    .first()
                    .cloned()
                    .unwrap_or_else(|| NodeId::Outside(id.to_owned())),
            ),
        }
    }
}

fn service(labels: &Labels<'_>) -> Option<NodeId> {
    let (namespace, name) = (labels.get(Label::SrvNamespace), labels.get(Label::SrvName));
    if name.is_empty() || namespace.is_empty() {
        return None;
    }
    Some(NodeId::Service { namespace: namespace.into(), name: name.into() })
}

/// Kubelet asks every Pod how it is: nobody wants to see that as traffic.
fn is_probe(labels: &Labels<'_>) -> bool {
    let is = |kind, name| labels.get(kind) == "default" && labels.get(name) == "probe";
    is(Label::RouteKind, Label::RouteName) || is(Label::AuthzKind, Label::AuthzName)
}

impl Flows {
    pub fn read(snapshot: &Snapshot, directory: &Directory) -> Flows {
        let reader = Reader::new(directory, &snapshot.proxies);
        let mut flows = Flows::default();
        let mut denials = Vec::new();
        for (row, labels) in snapshot.rows().filter(|(_, labels)| !is_probe(labels)) {
            let outbound = labels.get(Label::Direction) == "outbound";
            match row.metric() {
                Metric::HttpAllow | Metric::TcpAllow => continue,
                Metric::HttpDeny | Metric::TcpDeny => {
                    if row.sample.count > 0 {
                        denials.push((labels, row.sample.count));
                    }
                    continue;
                }
                Metric::Response
                | Metric::TcpOpen
                | Metric::TcpRead
                | Metric::TcpWrite
                | Metric::TcpConnections => {}
            }
            let side = if outbound { &mut flows.sent } else { &mut flows.received };
            side.entry(reader.reporter(&labels)).or_default().add(row, &labels);
            if outbound
                && row.metric() == Metric::Response
                && let Some(rule) = routes::taken(&labels)
            {
                *flows.by_rule.entry(rule).or_default() += row.sample.count;
            }
            let Some(ends) = reader.ends(&labels) else { continue };
            let flow = flows.between.entry(ends).or_default();
            flow.tally.add(row, &labels);
            let identity = |label| Some(labels.get(label)).filter(|id| !id.is_empty()).map(str::to_owned);
            flow.server_identity = flow.server_identity.take().or_else(|| identity(Label::ServerId));
            flow.client_identity = flow.client_identity.take().or_else(|| identity(Label::ClientId));
        }
        flows.fold_outside();
        flows.settle_unreached();
        for (labels, count) in denials {
            flows.note_denial(&reader, &labels, count);
        }
        flows
    }

    /// Many addresses outside are one node: a port scan must not become a thousand cards.
    fn fold_outside(&mut self) {
        let outside: BTreeSet<&NodeId> = self
            .between
            .keys()
            .flat_map(|ends| [&ends.from, &ends.to])
            .filter(|node| matches!(node, NodeId::Outside(_)))
            .collect();
        if outside.len() <= MAX_OUTSIDE {
            return;
        }
        let fold = |node: NodeId| match node {
            NodeId::Outside(_) => NodeId::Outside(OUTSIDE.into()),
            inside => inside,
        };
        for (ends, flow) in std::mem::take(&mut self.between) {
            let ends = Ends { from: fold(ends.from), service: ends.service, to: fold(ends.to) };
            self.between.entry(ends).or_default().merge(flow);
        }
    }

    /// Requests that failed before a workload was chosen belong to the Service's only workload, where it has just one.
    fn settle_unreached(&mut self) {
        let mut behind: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for ends in self.between.keys() {
            if let Some(service) = &ends.service
                && *service != ends.to
            {
                behind.entry(service.clone()).or_default().insert(ends.to.clone());
            }
        }
        for (mut ends, flow) in std::mem::take(&mut self.between) {
            if let Some(workloads) = behind.get(&ends.to)
                && workloads.len() == 1
                && let Some(only) = workloads.first()
            {
                ends.to = only.clone();
            }
            self.between.entry(ends).or_default().merge(flow);
        }
    }

    /// What a server refused is noted on the flow that it came by. Where several workloads share the refused identity, it is
    /// those that were answered "forbidden".
    fn note_denial(&mut self, reader: &Reader<'_>, labels: &Labels<'_>, count: u64) {
        let to = reader.reporter(labels);
        let candidates = match (labels.get(Label::ClientId), labels.get(Label::ClientIp)) {
            ("", "") => vec![NodeId::Outside(OUTSIDE.into())],
            ("", ip) => vec![reader.directory.node_of_ip(ip)],
            (id, _) => match reader.directory.nodes_of_identity(id) {
                [] => vec![NodeId::Outside(id.to_owned())],
                nodes => nodes.to_vec(),
            },
        };
        let mut left = count;
        for (_, flow) in
            self.between.iter_mut().filter(|(ends, _)| ends.to == to && candidates.contains(&ends.from))
        {
            let here = left.min(flow.tally.forbidden.saturating_sub(flow.denied));
            flow.denied += here;
            left -= here;
        }
        if left > 0 {
            // Refused connections leave no response: they are counted where they can only have come from.
            let known =
                self.between.keys().find(|ends| ends.to == to && candidates.contains(&ends.from)).cloned();
            let ends = known.unwrap_or_else(|| Ends { from: candidates[0].clone(), service: None, to });
            self.between.entry(ends).or_default().denied += left;
        }
    }

    /// Services whose traffic splits over several workloads.
    pub fn split_services(&self) -> BTreeSet<NodeId> {
        let mut behind: BTreeMap<&NodeId, BTreeSet<&NodeId>> = BTreeMap::new();
        for ends in self.between.keys() {
            if let Some(service) = ends.service.as_ref().filter(|service| **service != ends.to) {
                behind.entry(service).or_default().insert(&ends.to);
            }
        }
        behind
            .into_iter()
            .filter(|(_, workloads)| workloads.len() > 1)
            .map(|(service, _)| service.clone())
            .collect()
    }
}

impl Flow {
    pub fn merge(&mut self, other: Flow) {
        self.tally.merge(&other.tally);
        self.server_identity = self.server_identity.take().or(other.server_identity);
        self.client_identity = self.client_identity.take().or(other.client_identity);
        self.denied += other.denied;
    }
}
