//! `mesh install`: the chart's objects, printed or applied. Printing asks no cluster.

pub mod ready;

use super::values;
use crate::{
    arguments::{ApplyOptions, InstallOptions},
    cluster::{Applied, Cluster, subject},
    installation,
    reach::Reach,
    say::say,
};
use anyhow::bail;
use mesh_api::names;
use mesh_charts::{
    chart::{self, Object},
    inject::Injection,
    values::Values,
};
use serde_json::Value;
use std::time::Instant;

pub async fn run(reach: &Reach, options: InstallOptions) -> anyhow::Result<()> {
    let namespace = options.namespace.as_deref().or(reach.options.mesh_namespace.as_deref());
    let values = values::read(&options.values, namespace, None)?;
    let objects = chart::render(&values)?;
    say_images(&values, &objects)?;
    if !options.apply.apply {
        say(&text(&objects));
        return Ok(());
    }
    let cluster = reach.cluster().await?;
    apply(&cluster, &objects, &options.apply).await?;
    say(&format!(
        "\nNext: kubectl annotate namespace NAME {}=enabled, and restart what runs there.\n",
        names::INJECT
    ));
    Ok(())
}

/// Beside the objects: that nodes find no image is what goes wrong first.
pub fn say_images(values: &Values, objects: &[Object]) -> anyhow::Result<()> {
    let deployment = objects.iter().find(|object| object.kind() == "Deployment");
    let operator =
        deployment.map(|object| &object.value["spec"]["template"]["spec"]["containers"][0]["image"]);
    let operator = operator.and_then(Value::as_str).unwrap_or_default();
    let proxy = Injection::of(values)?.image;
    eprintln!("images: {operator} and {proxy}");
    if values.images.registry.is_empty() {
        eprintln!(
            "‼ no registry publishes them yet: --set images.registry=…/ names yours, unless every node has them (cargo xtask images)"
        );
    }
    Ok(())
}

pub fn text(objects: &[Object]) -> String {
    let documents: Vec<&str> = objects.iter().map(|object| object.yaml.as_str()).collect();
    documents.join("---\n")
}

/// One after the other, with a line each; then waits for the operator.
pub async fn apply(cluster: &Cluster, objects: &[Object], options: &ApplyOptions) -> anyhow::Result<()> {
    refuse_helms(cluster, objects).await?;
    let start = Instant::now();
    let mut claimed = vec![];
    for object in objects {
        claimed.push(installation::claim(&object.value, cluster.get(&object.value).await?)?);
    }
    for object in &claimed {
        let word = match cluster.apply(object).await? {
            Applied::Created => "created",
            Applied::Changed => "changed",
            Applied::Unchanged => "unchanged",
        };
        say(&format!("√ {} {word}\n", subject(object)));
    }
    ready::wait(cluster, objects, options.timeout).await?;
    say(&format!("√ the operator is ready, after {:.1} s\n", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Two owners of the same objects would undo each other's changes.
async fn refuse_helms(cluster: &Cluster, objects: &[Object]) -> anyhow::Result<()> {
    let Some(deployment) = objects.iter().find(|object| object.kind() == "Deployment") else { return Ok(()) };
    let Some(there) = cluster.get(&deployment.value).await? else { return Ok(()) };
    let annotations = there.metadata.annotations.unwrap_or_default();
    if let Some(release) = annotations.get("meta.helm.sh/release-name") {
        let namespace = annotations.get("meta.helm.sh/release-namespace").map_or("default", String::as_str);
        bail!("this mesh was installed by Helm: use helm upgrade {release} -n {namespace}");
    }
    Ok(())
}
