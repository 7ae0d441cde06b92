//! `mesh upgrade`: the objects of this version with the values that are in force, printed or applied. Applying also deletes what
//! this version or these values no longer have.

use super::{install, values};
use crate::{
    arguments::InstallOptions,
    cluster::{Cluster, subject},
    installation,
    reach::Reach,
    say::say,
};
use anyhow::{Context, bail};
use mesh_api::names;
use mesh_charts::{chart, values::Given};
use serde_json::json;

pub async fn run(reach: &Reach, options: InstallOptions) -> anyhow::Result<()> {
    let cluster = reach.cluster().await?;
    let named = options.namespace.as_deref().or(reach.options.mesh_namespace.as_deref());
    let namespace = named.unwrap_or(names::OPERATOR_NAMESPACE);
    let kept = kept(&cluster, namespace).await?;
    let values = values::read(&options.values, named, Some(&kept))?;
    for path in Given::default().kept(&kept)? {
        eprintln!("‼ value {path} is left out: this version does not know it");
    }
    let objects = chart::render(&values)?;
    install::say_images(&values, &objects)?;
    if !options.apply.apply {
        say(&install::text(&objects));
        return Ok(());
    }
    install::apply(&cluster, &objects, &options.apply).await?;
    for left in installation::candidates(&cluster).await? {
        let is_current = objects.iter().any(|object| subject(&object.value) == subject(&left));
        if installation::is_prunable(&left, namespace) && !is_current && cluster.delete(&left).await? {
            say(&format!("√ {} deleted: this version has none\n", subject(&left)));
        }
    }
    Ok(())
}

/// The values of the mesh that is there.
pub async fn kept(cluster: &Cluster, namespace: &str) -> anyhow::Result<String> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": names::VALUES_CONFIG_MAP, "namespace": namespace },
    });
    let Some(config) = cluster.get(&config).await? else {
        match installation::elsewhere(cluster).await {
            Some(other) if other != namespace => {
                bail!(
                    "no mesh in namespace {namespace}: this cluster's is in {other}, name that with -n {other}"
                )
            }
            Some(_) | None => {
                bail!("no mesh in namespace {namespace}: use mesh install, or name its namespace with -n")
            }
        }
    };
    let text = config.data["data"][names::VALUES_KEY].as_str();
    text.map(str::to_owned).context("its values are not there any more: give them with -f, to mesh install")
}
