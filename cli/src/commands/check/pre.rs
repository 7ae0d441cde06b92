//! `mesh check --pre`: whether a cluster can take the mesh. Asks the API server, changes nothing.

use super::{
    kubernetes,
    made::{fail, pass},
};
use crate::cluster::{Cluster, subject};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{
    Api,
    api::PostParams,
    core::{ApiResource, GroupVersionKind},
};
use mesh_api::check::Check;
use mesh_charts::{
    chart::{self, Object},
    values::Values,
};

const INSTALL: &str = "pre-install";

/// `values`: what would be installed.
pub async fn checks(cluster: &Cluster, values: &Values) -> Vec<Check> {
    let mut checks = match kubernetes::checks(cluster).await {
        Ok(checks) => checks,
        Err(failed) => return vec![failed],
    };
    match chart::render(values) {
        Ok(objects) => {
            checks.push(is_not_there(cluster, &objects).await);
            checks.push(may_create(cluster, &objects).await);
        }
        Err(e) => {
            checks.push(fail(INSTALL, "the chart can be rendered", vec![e.to_string()], "report a bug"))
        }
    }
    checks
}

async fn is_not_there(cluster: &Cluster, objects: &[Object]) -> Check {
    const NAME: &str = "no mesh is there yet";
    let mut there = vec![];
    // Its namespace may be there: then that stays when the mesh goes.
    for object in objects.iter().filter(|object| object.kind() != "Namespace") {
        match cluster.get(&object.value).await {
            Ok(Some(_)) => there.push(format!("{} exists", subject(&object.value))),
            Ok(None) => {}
            Err(e) => there.push(format!("{e:#}")),
        }
    }
    if there.is_empty() {
        pass(INSTALL, NAME)
    } else {
        fail(INSTALL, NAME, there, "mesh upgrade, or mesh uninstall first")
    }
}

/// As the API server's own authorization answers; one question for each kind and namespace.
async fn may_create(cluster: &Cluster, objects: &[Object]) -> Check {
    const NAME: &str = "you may create what the mesh is made of";
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let mut findings = vec![];
    let mut asked: Vec<(&str, Option<&str>)> = vec![];
    for object in objects {
        let namespace = object.value["metadata"]["namespace"].as_str();
        if asked.contains(&(object.kind(), namespace)) {
            continue;
        }
        asked.push((object.kind(), namespace));
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes(object, namespace)),
                ..Default::default()
            },
            ..Default::default()
        };
        match cluster.ask(api.create(&PostParams::default(), &review)).await {
            Ok(review) if review.status.as_ref().is_some_and(|status| status.allowed) => {}
            Ok(_) => findings.push(format!("not allowed: {}", subject(&object.value))),
            Err(e) => findings.push(format!("{e:#}")),
        }
    }
    if findings.is_empty() {
        return pass(INSTALL, NAME);
    }
    fail(INSTALL, NAME, findings, "install as an administrator of the cluster")
}

fn attributes(object: &Object, namespace: Option<&str>) -> ResourceAttributes {
    let version = object.value["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, object.kind()));
    ResourceAttributes {
        group: Some(group.to_owned()),
        version: Some(version.to_owned()),
        resource: Some(resource.plural),
        verb: Some("create".into()),
        namespace: namespace.map(str::to_owned),
        ..Default::default()
    }
}
