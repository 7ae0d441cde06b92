//! How proxies say who they are: a small JSON text, or `namespace:pod` as older ones do.

use mesh_policy::{PodInfo, Tables};
use serde::Deserialize;
use tonic::Status;

/// `{"ns":"bookinfo","pod":"reviews-v1"}`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Workload {
    pub ns: String,
    #[serde(default)]
    pub pod: String,
}

impl Workload {
    pub fn parse(text: &str) -> Result<Workload, Status> {
        let bad = || Status::invalid_argument("workload: want {\"ns\":\"…\",\"pod\":\"…\"}");
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text)
                .ok()
                .filter(|workload: &Workload| !workload.ns.is_empty())
                .ok_or_else(bad);
        }
        let (ns, pod) = text.split_once(':').ok_or_else(bad)?;
        if ns.is_empty() || pod.is_empty() {
            return Err(bad());
        }
        Ok(Workload { ns: ns.into(), pod: pod.into() })
    }
}

/// What `Destination` requests carry; of use only to prefer what is near, so a text that cannot be read is ignored.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Context {
    pub ns: String,
    pub pod: String,
    pub node_name: String,
}

impl Context {
    pub fn parse(text: &str) -> Context {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// The node that the proxy is on: as it says, else as its Pod does.
    pub fn node<'a>(&'a self, tables: &'a Tables) -> Option<&'a str> {
        self.said_node().or_else(|| self.own(tables)?.node.as_deref())
    }

    /// The zone of that node; of one that nobody knows, or that is in none, as the Pod's label says. Asked before each message, so that
    /// its Pod is looked for, among all of the cluster's, where nothing else says it.
    pub fn zone<'a>(&'a self, tables: &'a Tables) -> Option<&'a str> {
        let said = self.said_node();
        let of_node = |node: &str| tables.zone(node);
        said.and_then(of_node).or_else(|| {
            let own = self.own(tables)?;
            let unsaid = own.node.as_deref().filter(|_| said.is_none());
            unsaid.and_then(of_node).or(own.zone.as_deref())
        })
    }

    fn said_node(&self) -> Option<&str> {
        Some(&*self.node_name).filter(|node| !node.is_empty())
    }

    fn own<'a>(&self, tables: &'a Tables) -> Option<&'a PodInfo> {
        if self.pod.is_empty() { None } else { tables.pod(&self.ns, &self.pod) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Context, Workload};
    use mesh_policy::{Settings, Tables, World};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn a_proxy_is_in_the_zone_of_its_node_or_else_in_its_pods() {
        let node = json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "east"}}});
        let pod = |name: &str, node: &str, ip: &str| {
            let labels = json!({"topology.kubernetes.io/zone": "west"});
            let pod = json!({
                "metadata": {"name": name, "namespace": "shop", "labels": labels},
                "spec": {"containers": [], "nodeName": node}, "status": {"podIP": ip},
            });
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let world = World {
            nodes: vec![Arc::new(serde_json::from_value(node).unwrap())].into(),
            pods: vec![pod("a", "n1", "10.0.0.1"), pod("b", "n2", "10.0.0.2")].into(),
            ..World::default()
        };
        let tables = Tables::build(&world, &Settings::default());
        let zone = |said: serde_json::Value| {
            let context = Context::parse(&said.to_string());
            context.zone(&tables).map(str::to_owned)
        };
        for (said, expected) in [
            (json!({"ns": "shop", "pod": "b", "nodeName": "n1"}), Some("east")),
            (json!({"ns": "shop", "pod": "a"}), Some("east")),
            (json!({"ns": "shop", "pod": "b"}), Some("west")),
            // Its node is what it says, though its Pod is said to be elsewhere.
            (json!({"ns": "shop", "pod": "a", "nodeName": "n2"}), Some("west")),
            (json!({"ns": "shop", "pod": "c", "nodeName": "n2"}), None),
            (json!({"ns": "shop"}), None),
            (json!({}), None),
        ] {
            assert_eq!(zone(said.clone()).as_deref(), expected, "{said}");
        }
    }

    #[test]
    fn both_forms_and_rubbish() {
        let wanted = Workload { ns: "demo".into(), pod: "web-0".into() };
        assert_eq!(Workload::parse(r#"{"ns":"demo","pod":"web-0"}"#).unwrap(), wanted);
        assert_eq!(Workload::parse("demo:web-0").unwrap(), wanted);
        assert_eq!(Workload::parse(r#"{"ns":"demo","external_workload":"vm"}"#).unwrap().pod, "");
        for text in ["", "demo", ":web", "demo:", "{}", "{\"ns\":1}", "{\"pod\":\"web\"}", "\0"] {
            assert_eq!(Workload::parse(text).unwrap_err().code(), tonic::Code::InvalidArgument, "{text:?}");
        }
    }
}
