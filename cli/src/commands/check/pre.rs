//! `mesh check --pre`: whether a cluster can take the mesh. Asks the API server, changes nothing.

use super::{
    kubernetes,
    made::{fail, pass, unseen},
};
use crate::{
    cluster::{Cluster, is_forbidden, subject},
    installation,
};
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
use std::collections::BTreeSet;

const INSTALL: &str = "pre-install";

/// `values`: what would be installed.
pub async fn checks(cluster: &Cluster, values: &Values) -> Vec<Check> {
    let mut checks = match kubernetes::checks(cluster).await {
        Ok(checks) => checks,
        Err(failed) => return vec![failed],
    };
    match chart::render(values) {
        Ok(objects) => {
            checks.extend(is_not_there(cluster, &objects).await);
            checks.push(may_create(cluster, &objects).await);
        }
        Err(e) => {
            checks.push(fail(INSTALL, "the chart can be rendered", vec![e.to_string()], "report a bug"))
        }
    }
    checks
}

/// What is there already of what would be made. A namespace may be: an issuer's Secret waits in it, or Helm or a repository makes it.
async fn is_not_there(cluster: &Cluster, objects: &[Object]) -> [Check; 2] {
    const MESH: &str = "no mesh is there yet";
    const NAMES: &str = "no name of the mesh is somebody else's";
    let mut meshes = BTreeSet::new();
    let (mut taken, mut hidden) = (vec![], vec![]);
    for object in objects.iter().filter(|object| object.kind() != "Namespace") {
        match cluster.get(&object.value).await {
            Ok(None) => {}
            Ok(Some(there)) => match installation::owner(&there) {
                Some(namespace) => drop(meshes.insert(namespace)),
                None if installation::is_our_definition(&object.value) => {}
                None => taken.push(format!("{} is there and is none of the mesh's", subject(&object.value))),
            },
            Err(e) if is_forbidden(&e) => hidden.push(subject(&object.value)),
            Err(e) => taken.push(format!("{e:#}")),
        }
    }
    let there = meshes.iter().map(|namespace| format!("a mesh is installed in namespace {namespace}"));
    let upgrade = |namespace| {
        format!("mesh upgrade -n {namespace} brings it to this version; mesh uninstall removes it")
    };
    [
        match meshes.first() {
            None if !hidden.is_empty() => unseen(&hidden, INSTALL, MESH),
            None => pass(INSTALL, MESH),
            Some(namespace) => fail(INSTALL, MESH, there.collect(), &upgrade(namespace)),
        },
        match taken.is_empty() {
            true if !hidden.is_empty() => unseen(&hidden, INSTALL, NAMES),
            true => pass(INSTALL, NAMES),
            false => {
                fail(INSTALL, NAMES, taken, "the mesh overwrites nothing: give it another name, or delete it")
            }
        },
    ]
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
