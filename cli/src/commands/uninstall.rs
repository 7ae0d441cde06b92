//! `mesh uninstall`: everything that the mesh is made of on this cluster, however it was installed, in the order in which it goes:
//! webhooks first, so that nothing asks an operator that is gone.

use crate::{
    arguments::UninstallOptions,
    cluster::{Cluster, subject},
    reach::Reach,
    say::say,
};
use anyhow::{anyhow, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use mesh_api::names;
use mesh_charts::chart;
use serde_json::{Value, json};
use std::time::Duration;

/// What the chart holds, and what the operator made of it, such as the trust anchors in every meshed namespace.
const PART_OF_MESH: &str = "app.kubernetes.io/part-of=mesh";
/// Between two looks at whether it is gone.
const PAUSE: Duration = Duration::from_millis(200);

pub async fn run(reach: &Reach, UninstallOptions { apply: options }: UninstallOptions) -> anyhow::Result<()> {
    let cluster = reach.cluster().await?;
    let objects = labelled(&cluster, PART_OF_MESH).await?;
    if objects.is_empty() {
        bail!("there is no mesh on this cluster");
    }
    warn_of_proxies(&cluster).await?;
    if !options.apply {
        let documents: Vec<String> = objects.iter().map(document).collect();
        say(&documents.join("---\n"));
        return Ok(());
    }
    refuse_helms(&cluster, &objects).await?;
    for object in &objects {
        let word = if cluster.delete(object).await? { "deleted" } else { "was gone already" };
        say(&format!("√ {} {word}\n", subject(object)));
    }
    unlabel(&cluster).await?;
    let gone = tokio::time::timeout(options.timeout, gone(&cluster, &objects)).await;
    gone.map_err(|_| anyhow!("not everything is gone after {} s", options.timeout.as_secs()))??;
    say("√ nothing of the mesh is left\n");
    Ok(())
}

/// Objects of the chart's kinds and names with this label, in the order in which they are to be deleted.
pub async fn labelled(cluster: &Cluster, label: &str) -> anyhow::Result<Vec<Value>> {
    let labels = ListParams::default().labels(label);
    let mut objects = vec![];
    for (api_version, kind) in chart::KINDS.iter().rev() {
        let any = json!({ "apiVersion": api_version, "kind": kind });
        let list = cluster.ask(cluster.api(&any).list(&labels)).await?;
        for object in list {
            let mut metadata = json!({ "name": object.metadata.name });
            if let Some(namespace) = object.metadata.namespace {
                metadata["namespace"] = namespace.into();
            }
            let object = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata });
            if is_ours(&object) {
                objects.push(object);
            }
        }
    }
    Ok(objects)
}

/// Others may call what they have a part of a mesh too: ours carry the names that the chart gives.
fn is_ours(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    object["kind"] == "Namespace" || name.starts_with("mesh-") || name.ends_with(".mesh.dev")
}

async fn warn_of_proxies(cluster: &Cluster) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::all(cluster.client.clone());
    let meshed = ListParams::default().labels(names::CONTROL_NAMESPACE_LABEL);
    let count = cluster.ask(api.list_metadata(&meshed)).await?.items.len();
    if count > 0 {
        eprintln!(
            "‼ {count} Pods have a proxy: it works on until its certificate ends. Restart them after the mesh is gone, \
             and they start without"
        );
    }
    Ok(())
}

async fn refuse_helms(cluster: &Cluster, objects: &[Value]) -> anyhow::Result<()> {
    for object in objects {
        let there = cluster.get(object).await?;
        let annotations = there.and_then(|there| there.metadata.annotations).unwrap_or_default();
        if let Some(release) = annotations.get("meta.helm.sh/release-name") {
            let namespace =
                annotations.get("meta.helm.sh/release-namespace").map_or("default", String::as_str);
            bail!("this mesh was installed by Helm: use helm uninstall {release} -n {namespace}");
        }
    }
    Ok(())
}

/// The operator's label on namespaces that were meshed. Their annotation is the user's and stays.
async fn unlabel(cluster: &Cluster) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let labelled = ListParams::default().labels(names::INJECT_LABEL);
    let list = cluster.ask(api.list_metadata(&labelled)).await?;
    let patch = Patch::Merge(json!({ "metadata": { "labels": { names::INJECT_LABEL: null } } }));
    for namespace in list.items.into_iter().filter_map(|namespace| namespace.metadata.name) {
        cluster.ask(api.patch_metadata(&namespace, &PatchParams::default(), &patch)).await?;
        say(&format!("√ Namespace {namespace} has no label of the mesh any more\n"));
    }
    Ok(())
}

async fn gone(cluster: &Cluster, objects: &[Value]) -> anyhow::Result<()> {
    for object in objects {
        while cluster.get(object).await?.is_some() {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

fn document(object: &Value) -> String {
    let field = |name: &str| object["metadata"][name].as_str();
    let namespace = field("namespace").map(|namespace| format!("  namespace: {namespace}\n"));
    format!(
        "apiVersion: {}\nkind: {}\nmetadata:\n  name: {}\n{}",
        object["apiVersion"].as_str().unwrap_or_default(),
        object["kind"].as_str().unwrap_or_default(),
        field("name").unwrap_or_default(),
        namespace.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_chart_names_is_ours() {
        let named = |kind: &str, name: &str| is_ours(&json!({ "kind": kind, "metadata": { "name": name } }));
        assert!(named("Deployment", "mesh-operator") && named("Namespace", "linked"));
        assert!(named("CustomResourceDefinition", "authorizationpolicies.mesh.dev"));
        assert!(!named("Deployment", "wire") && !named("CustomResourceDefinition", "x.example.com"));
    }
}
