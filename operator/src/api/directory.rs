//! Who is behind a pod's name, an address or an identity: the workloads that policy knows, indexed for reading telemetry.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
};

/// What a view needs to know of a Pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub workload: String,
    pub app: String,
    pub version: Option<String>,
    pub ips: Vec<IpAddr>,
    pub meshed: bool,
    pub identity: Option<String>,
}

/// A workload's namespace and name.
pub type WorkloadKey = (String, String);

/// Something that traffic comes from or goes to. Its text is the node id in the graph and in URLs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeId {
    Workload {
        namespace: String,
        name: String,
    },
    Service {
        namespace: String,
        name: String,
    },
    /// An address or identity that no Pod has.
    Outside(String),
}

impl NodeId {
    pub fn workload(namespace: &str, name: &str) -> NodeId {
        NodeId::Workload { namespace: namespace.into(), name: name.into() }
    }

    /// The inverse of its text.
    pub fn parse(text: &str) -> Option<NodeId> {
        let (kind, rest) = text.split_once(':')?;
        if kind == "x" {
            return (!rest.is_empty()).then(|| NodeId::Outside(rest.into()));
        }
        let (namespace, name) =
            rest.split_once('/').filter(|(ns, name)| !ns.is_empty() && !name.is_empty())?;
        match kind {
            "w" => Some(NodeId::workload(namespace, name)),
            "s" => Some(NodeId::Service { namespace: namespace.into(), name: name.into() }),
            _ => None,
        }
    }

    pub fn namespace(&self) -> &str {
        match self {
            NodeId::Workload { namespace, .. } | NodeId::Service { namespace, .. } => namespace,
            NodeId::Outside(_) => "",
        }
    }

    pub fn name(&self) -> &str {
        match self {
            NodeId::Workload { name, .. } | NodeId::Service { name, .. } | NodeId::Outside(name) => name,
        }
    }

    /// As people call it: `shop/reviews-v2`.
    pub fn spoken(&self) -> String {
        match self {
            NodeId::Workload { namespace, name } => format!("{namespace}/{name}"),
            NodeId::Service { namespace, name } => format!("Service {namespace}/{name}"),
            NodeId::Outside(name) => name.clone(),
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeId::Workload { namespace, name } => write!(f, "w:{namespace}/{name}"),
            NodeId::Service { namespace, name } => write!(f, "s:{namespace}/{name}"),
            NodeId::Outside(name) => write!(f, "x:{name}"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    pub app: String,
    pub version: Option<String>,
    /// Indices into `Directory::pods`.
    pub pods: Vec<usize>,
    pub meshed_pods: usize,
    pub identity: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Directory {
    pods: Vec<Pod>,
    workloads: BTreeMap<WorkloadKey, Workload>,
    by_name: HashMap<(String, String), usize>,
    by_ip: HashMap<IpAddr, usize>,
    by_identity: HashMap<String, Vec<NodeId>>,
}

impl Directory {
    pub fn new(mut pods: Vec<Pod>) -> Directory {
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let mut directory = Directory::default();
        for (i, pod) in pods.iter().enumerate() {
            let workload =
                directory.workloads.entry((pod.namespace.clone(), pod.workload.clone())).or_default();
            workload.app = pod.app.clone();
            workload.version = pod.version.clone();
            workload.pods.push(i);
            workload.meshed_pods += usize::from(pod.meshed);
            if pod.meshed && workload.identity.is_none() {
                workload.identity = pod.identity.clone();
            }
            directory.by_name.insert((pod.namespace.clone(), pod.name.clone()), i);
            directory.by_ip.extend(pod.ips.iter().map(|&ip| (ip, i)));
            if let Some(identity) = pod.identity.as_ref().filter(|_| pod.meshed) {
                let node = NodeId::workload(&pod.namespace, &pod.workload);
                let owners = directory.by_identity.entry(identity.clone()).or_default();
                if !owners.contains(&node) {
                    owners.push(node);
                }
            }
        }
        directory.pods = pods;
        directory
    }

    pub fn workloads(&self) -> &BTreeMap<WorkloadKey, Workload> {
        &self.workloads
    }

    pub fn workload(&self, node: &NodeId) -> Option<&Workload> {
        let NodeId::Workload { namespace, name } = node else { return None };
        self.workloads.get(&(namespace.clone(), name.clone()))
    }

    pub fn pods_of<'a>(&'a self, workload: &'a Workload) -> impl Iterator<Item = &'a Pod> {
        workload.pods.iter().map(|&i| &self.pods[i])
    }

    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Pod> {
        self.by_name.get(&(namespace.to_owned(), name.to_owned())).map(|&i| &self.pods[i])
    }

    /// The workload of a reporting or serving pod. One that is gone already is named as its owner would have been.
    pub fn node_of_pod(&self, namespace: &str, pod: &str) -> NodeId {
        match self.pod(namespace, pod) {
            Some(known) => NodeId::workload(namespace, &known.workload),
            None => NodeId::workload(namespace, owner_of(pod)),
        }
    }

    pub fn node_of_ip(&self, ip: &str) -> NodeId {
        let known = ip.parse().ok().and_then(|ip: IpAddr| self.by_ip.get(&ip));
        match known.map(|&i| &self.pods[i]) {
            Some(pod) => NodeId::workload(&pod.namespace, &pod.workload),
            None => NodeId::Outside(ip.to_owned()),
        }
    }

    /// Every workload that has this identity; versions of one app usually share theirs.
    pub fn nodes_of_identity(&self, identity: &str) -> &[NodeId] {
        self.by_identity.get(identity).map_or(&[], Vec::as_slice)
    }
}

/// `reviews-v1` of `reviews-v1-6d8f7c9b5-x2x4z`: what a Deployment's or ReplicaSet's pod is called after.
fn owner_of(pod: &str) -> &str {
    let generated = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let Some((rest, last)) = pod.rsplit_once('-') else { return pod };
    if !generated(last, 5..=5) {
        return pod;
    }
    match rest.rsplit_once('-') {
        Some((owner, hash)) if generated(hash, 8..=10) => owner,
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_owner_in_a_pods_name() {
        assert_eq!(owner_of("reviews-v1-6d8f7c9b5-x2x4z"), "reviews-v1");
        assert_eq!(owner_of("node-agent-x2x4z"), "node-agent");
        assert_eq!(owner_of("reviews-v1"), "reviews-v1");
        assert_eq!(owner_of("ratings"), "ratings");
    }

    #[test]
    fn ids_are_read_back() {
        for text in ["w:shop/cart", "s:shop/cart", "x:10.0.0.9", "x:a/b:c"] {
            assert_eq!(NodeId::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "w:", "w:shop", "w:/a", "y:a/b", "x:"] {
            assert_eq!(NodeId::parse(text), None, "{text}");
        }
    }
}
