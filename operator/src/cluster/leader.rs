//! The label by which the Service for telemetry finds the replica that leads: what all proxies report is kept in one place, and
//! nobody has to pass it on. A pure plan, carried out by `duties`.

use mesh_api::names;
use mesh_policy::Pod;
use serde_json::{Value, json};
use std::sync::Arc;

/// Pods of the operator's namespace whose label is not as it should be, with a merge patch: `me` has it, and nobody else.
pub fn plan(pods: &[Arc<Pod>], namespace: &str, me: &str) -> Vec<(String, Value)> {
    let own = pods.iter().filter(|pod| pod.metadata.namespace.as_deref() == Some(namespace));
    own.filter_map(|pod| {
        let name = pod.metadata.name.clone()?;
        let leads = pod.template.labels.contains_key(names::LEADER_LABEL);
        let wanted = name == me;
        let label = wanted.then_some("true");
        (leads != wanted).then(|| (name, json!({"metadata": {"labels": {names::LEADER_LABEL: label}}})))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pod_leads_and_those_that_did_no_longer_do() {
        let pod = |namespace: &str, name: &str, leads: bool| {
            let mut pod = Pod::default();
            pod.metadata.namespace = Some(namespace.into());
            pod.metadata.name = Some(name.into());
            let label = (names::LEADER_LABEL.to_owned(), "true".to_owned());
            Arc::make_mut(&mut pod.template).labels.extend(leads.then_some(label));
            Arc::new(pod)
        };
        let pods = [
            pod("mesh", "a", true),
            pod("mesh", "b", false),
            pod("mesh", "c", false),
            pod("shop", "b", true),
        ];
        let label = |value: Value| json!({"metadata": {"labels": {"mesh.dev/leader": value}}});
        let plan_of = |me| plan(&pods, "mesh", me);
        assert_eq!(plan_of("b"), [("a".into(), label(Value::Null)), ("b".into(), label("true".into()))]);
        assert_eq!(plan_of("a"), []);
    }
}
