//! `mesh uninstall`: everything that the mesh is made of on this cluster, in the order in which it goes: webhooks first, so that
//! nothing asks an operator that is gone. What that is, `installation` knows.

use crate::{
    arguments::UninstallOptions,
    cluster::{Cluster, subject},
    installation,
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
use serde_json::{Value, json};
use std::time::Duration;

/// Between two looks at whether it is gone.
const PAUSE: Duration = Duration::from_millis(200);

pub async fn run(reach: &Reach, UninstallOptions { apply: options }: UninstallOptions) -> anyhow::Result<()> {
    let cluster = reach.cluster().await?;
    let mut objects = installation::candidates(&cluster).await?;
    let namespace = installation::namespace(&objects, reach.options.mesh_namespace.as_deref())?;
    objects.retain(|object| installation::is_of(object, &namespace));
    keep_what_is_not_ours(&cluster, &namespace, &mut objects).await?;
    warn_of_proxies(&cluster).await?;
    if !options.apply {
        // What has an owner goes with it, and kubectl would fail over what has gone by itself.
        objects.retain(|object| object["metadata"]["ownerReferences"].is_null());
        let documents: Vec<String> = objects.iter().map(document).collect();
        say(&documents.join("---\n"));
        warn_of_labels(&cluster).await?;
        return Ok(());
    }
    refuse_helms(&objects)?;
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

/// A namespace takes along whatever it holds: it goes only where that is the mesh's alone.
async fn keep_what_is_not_ours(
    cluster: &Cluster,
    namespace: &str,
    objects: &mut Vec<Value>,
) -> anyhow::Result<()> {
    let is_namespace = |object: &Value| object["kind"] == "Namespace";
    if objects.iter().any(is_namespace) {
        let Some(stranger) = installation::stranger(cluster, namespace).await? else { return Ok(()) };
        eprintln!("‼ Namespace {namespace} stays: {stranger} is none of the mesh's");
        objects.retain(|object| !is_namespace(object));
    }
    for object in installation::made_by_the_operator(namespace) {
        if cluster.get(&object).await?.is_some() {
            objects.push(object);
        }
    }
    Ok(())
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

fn refuse_helms(objects: &[Value]) -> anyhow::Result<()> {
    for object in objects {
        let annotations = &object["metadata"]["annotations"];
        if let Some(release) = annotations["meta.helm.sh/release-name"].as_str() {
            let namespace = annotations["meta.helm.sh/release-namespace"].as_str().unwrap_or("default");
            bail!("this mesh was installed by Helm: use helm uninstall {release} -n {namespace}");
        }
    }
    Ok(())
}

/// The operator's label on namespaces that were meshed. Their annotation is the user's and stays.
async fn unlabel(cluster: &Cluster) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let patch = Patch::Merge(json!({ "metadata": { "labels": { names::INJECT_LABEL: null } } }));
    for namespace in labelled(cluster).await? {
        cluster.ask(api.patch_metadata(&namespace, &PatchParams::default(), &patch)).await?;
        say(&format!("√ Namespace {namespace} has no label of the mesh any more\n"));
    }
    Ok(())
}

/// What is deleted does not take it along.
async fn warn_of_labels(cluster: &Cluster) -> anyhow::Result<()> {
    let namespaces = labelled(cluster).await?;
    if !namespaces.is_empty() {
        let (label, all) = (names::INJECT_LABEL, namespaces.join(", "));
        eprintln!(
            "‼ these namespaces keep a label that does nothing without a mesh: {all}. Afterwards: kubectl label namespace -l {label} {label}-"
        );
    }
    Ok(())
}

async fn labelled(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let api: Api<Namespace> = Api::all(cluster.client.clone());
    let labelled = ListParams::default().labels(names::INJECT_LABEL);
    let list = cluster.ask(api.list_metadata(&labelled)).await?;
    Ok(list.items.into_iter().filter_map(|namespace| namespace.metadata.name).collect())
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
