//! How proxies say who they are: a small JSON text, or `namespace:pod` as older ones do.

use mesh_policy::Tables;
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
        let said = Some(&*self.node_name).filter(|node| !node.is_empty());
        said.or_else(|| tables.pod(&self.ns, &self.pod)?.node.as_deref())
    }

    /// The zone of that node; of one that nobody knows, or that is in none, as the Pod's label says.
    pub fn zone<'a>(&'a self, tables: &'a Tables) -> Option<&'a str> {
        let of_node = self.node(tables).and_then(|node| tables.zone(node));
        of_node.or_else(|| tables.pod(&self.ns, &self.pod)?.zone.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::Workload;

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
