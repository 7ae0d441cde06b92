//! What on a cluster belongs to which mesh. The chart writes the operator's namespace on everything that it makes, and what the
//! operator makes is known by its name and its owner. Whatever else is called a mesh is somebody else's and is left alone.

use crate::cluster::{Cluster, subject};
use anyhow::{bail, ensure};
use kube::{
    Api,
    api::{DynamicObject, ListParams, ObjectMeta},
};
use mesh_api::names;
use mesh_charts::chart;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// All of ours bear it, and things of others may: it makes lists short and decides nothing.
const PART_OF_MESH: &str = "app.kubernetes.io/part-of=mesh";

/// What a namespace may hold that its deletion would take along. Nothing else is worth keeping without one of these.
const KINDS_WORTH_KEEPING: [(&str, &str); 10] = [
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
];

/// Objects of the chart's kinds that may be a mesh's, in the order in which they are to be deleted.
pub async fn candidates(cluster: &Cluster) -> anyhow::Result<Vec<Value>> {
    let labels = ListParams::default().labels(PART_OF_MESH);
    let mut objects = vec![];
    for (api_version, kind) in chart::KINDS.iter().rev() {
        let any = json!({ "apiVersion": api_version, "kind": kind });
        for object in cluster.ask(cluster.api(&any).list(&labels)).await? {
            objects.push(
                json!({ "apiVersion": api_version, "kind": kind, "metadata": serde_json::to_value(object.metadata)? }),
            );
        }
    }
    Ok(objects)
}

/// Where the mesh of this cluster is: in the namespace that is named, else in the only one that has one.
pub fn namespace(candidates: &[Value], named: Option<&str>) -> anyhow::Result<String> {
    let installed: BTreeSet<&str> = candidates.iter().filter_map(label).collect();
    ensure!(!installed.is_empty(), "there is no mesh on this cluster");
    let all = Vec::from_iter(installed.iter().copied()).join(" and in ");
    match named {
        Some(named) if installed.contains(named) => Ok(named.to_owned()),
        Some(named) => bail!("no mesh in namespace {named}: there is one in {all} (--mesh-namespace)"),
        None if installed.len() == 1 => Ok(all),
        None => bail!("there is a mesh in {all}: say which is meant with --mesh-namespace"),
    }
}

/// Whether an object is made by the mesh of this namespace.
pub fn is_of(object: &Value, namespace: &str) -> bool {
    let metadata = &object["metadata"];
    match object["kind"].as_str().unwrap_or_default() {
        "CustomResourceDefinition" => is_our_definition(object),
        "ConfigMap" if metadata["name"] == names::TRUST_ANCHORS_CONFIG_MAP => {
            let mut owners = metadata["ownerReferences"].as_array().into_iter().flatten();
            owners.any(|owner| owner["kind"] == "ClusterRole" && owner["name"] == names::OPERATOR)
        }
        "Namespace" => label(object) == Some(namespace) && metadata["name"] == namespace,
        _ => {
            label(object) == Some(namespace)
                && metadata["namespace"].as_str().is_none_or(|own| own == namespace)
        }
    }
}

/// Whether it may go when the chart has it no more: what a namespace or a definition holds would go with it, and what the
/// operator has made is the operator's.
pub fn is_prunable(object: &Value, namespace: &str) -> bool {
    let is_container = ["Namespace", "CustomResourceDefinition"].iter().any(|kind| object["kind"] == *kind);
    !is_container && label(object) == Some(namespace) && is_of(object, namespace)
}

/// What the operator has made in its own namespace, which goes with that, or by itself where that stays.
pub fn made_by_the_operator(namespace: &str) -> [Value; 2] {
    [("v1", "Secret", names::IDENTITY_SECRET), ("coordination.k8s.io/v1", "Lease", names::OPERATOR)].map(
        |(api_version, kind, name)| {
            json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": name, "namespace": namespace } })
        },
    )
}

/// Something in the mesh's namespace that others have put there.
pub async fn stranger(cluster: &Cluster, namespace: &str) -> anyhow::Result<Option<String>> {
    for (api_version, kind) in KINDS_WORTH_KEEPING {
        let any = json!({ "apiVersion": api_version, "kind": kind, "metadata": { "namespace": namespace } });
        let api: Api<DynamicObject> = cluster.api(&any);
        for found in cluster.ask(api.list_metadata(&ListParams::default())).await?.items {
            if !is_at_home(kind, &found.metadata, namespace) {
                let name = found.metadata.name.unwrap_or_default();
                return Ok(Some(format!("{kind} {namespace}/{name}")));
            }
        }
    }
    Ok(None)
}

/// Ours, or what Kubernetes itself puts into every namespace.
fn is_at_home(kind: &str, metadata: &ObjectMeta, namespace: &str) -> bool {
    let ours =
        metadata.labels.as_ref().and_then(|labels| labels.get(names::INSTALL_LABEL)).map(String::as_str);
    let of_an_account = metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key("kubernetes.io/service-account.name"));
    let name = metadata.name.as_deref().unwrap_or_default();
    ours == Some(namespace)
        || match kind {
            "Secret" => name == names::IDENTITY_SECRET || of_an_account,
            "ConfigMap" => ["kube-root-ca.crt", "openshift-service-ca.crt", names::TRUST_ANCHORS_CONFIG_MAP]
                .contains(&name),
            _ => false,
        }
}

/// What to apply where `there` may be already: an object of somebody else's is refused rather than overwritten.
pub fn claim(object: &Value, there: Option<DynamicObject>) -> anyhow::Result<Value> {
    let mut object = object.clone();
    let Some(there) = there else { return Ok(object) };
    let (wanted, found) = (label(&object).unwrap_or_default().to_owned(), owner(&there));
    if object["kind"] == "Namespace" {
        // It was there before the mesh, and so it stays when the mesh goes.
        if found.is_none()
            && let Some(labels) = object["metadata"]["labels"].as_object_mut()
        {
            labels.remove(names::INSTALL_LABEL);
        }
        return Ok(object);
    }
    match found {
        Some(found) if found == wanted => Ok(object),
        None if is_our_definition(&object) => Ok(object),
        Some(found) => bail!(
            "{} belongs to the mesh in namespace {found}, and a cluster has one mesh: mesh upgrade -n {found} changes it, \
             mesh uninstall removes it",
            subject(&object)
        ),
        None => bail!(
            "{} is there already and is none of the mesh's: what it is for must have another name, or must go",
            subject(&object)
        ),
    }
}

/// Where the mesh of this cluster is, for a sentence about where it is not.
pub async fn elsewhere(cluster: &Cluster) -> Option<String> {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": names::OPERATOR },
    });
    owner(&cluster.get(&role).await.ok().flatten()?)
}

/// The namespace of the mesh that the chart has made something for.
pub fn owner(there: &DynamicObject) -> Option<String> {
    there.metadata.labels.as_ref()?.get(names::INSTALL_LABEL).cloned()
}

/// Our kinds are in a group of our own: whoever has one has it from us.
pub fn is_our_definition(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    object["kind"] == "CustomResourceDefinition"
        && name.split_once('.').is_some_and(|(_, group)| group == names::API_GROUP)
}

fn label(object: &Value) -> Option<&str> {
    object["metadata"]["labels"][names::INSTALL_LABEL].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(kind: &str, namespace: Option<&str>, name: &str, install: Option<&str>) -> Value {
        let mut labels = json!({ "app.kubernetes.io/name": "mesh", "app.kubernetes.io/part-of": "mesh" });
        if let Some(install) = install {
            labels[names::INSTALL_LABEL] = install.into();
        }
        json!({ "kind": kind, "metadata": { "name": name, "namespace": namespace, "labels": labels } })
    }

    #[test]
    fn what_is_called_a_mesh_is_not_ours_for_that() {
        let ours = |kind, namespace, name, install| {
            is_of(&labelled(kind, namespace, name, install), names::OPERATOR_NAMESPACE)
        };
        let own = Some(names::OPERATOR_NAMESPACE);
        assert!(ours("Deployment", own, "mesh-operator", own));
        assert!(ours("ClusterRole", None, "mesh-view", own));
        assert!(ours("Namespace", None, names::OPERATOR_NAMESPACE, own));
        assert!(ours("CustomResourceDefinition", None, "authorizationpolicies.mesh.dev", None));
        for (kind, namespace, name, install) in [
            ("Deployment", Some("shop"), "mesh-web", None),
            ("Deployment", Some("shop"), "mesh-web", own),
            ("Deployment", own, "mesh-web", None),
            ("ClusterRole", None, "mesh-view", None),
            ("ClusterRole", None, "mesh-operator", Some("other")),
            ("Namespace", None, "linked", None),
            ("Namespace", None, "linked", own),
            ("Namespace", None, names::OPERATOR_NAMESPACE, None),
            ("ConfigMap", Some("shop"), names::TRUST_ANCHORS_CONFIG_MAP, None),
            ("CustomResourceDefinition", None, "x.my.mesh.dev", None),
            ("CustomResourceDefinition", None, "x.example.com", own),
        ] {
            assert!(!ours(kind, namespace, name, install), "{kind} {namespace:?} {name} {install:?}");
        }
    }

    #[test]
    fn trust_anchors_are_ours_by_their_owner() {
        let mut anchors = labelled("ConfigMap", Some("shop"), names::TRUST_ANCHORS_CONFIG_MAP, None);
        anchors["metadata"]["ownerReferences"] = json!([{ "kind": "ClusterRole", "name": "mesh-operator" }]);
        assert!(is_of(&anchors, names::OPERATOR_NAMESPACE));
    }

    #[test]
    fn the_one_mesh_is_found_and_one_of_several_is_named() {
        let install = |at| labelled("ClusterRole", None, "mesh-view", Some(at));
        assert_eq!(namespace(&[install("a"), install("a")], None).unwrap(), "a");
        assert_eq!(namespace(&[install("a"), install("b")], Some("b")).unwrap(), "b");
        let refused = |found: &[Value], named| namespace(found, named).unwrap_err().to_string();
        assert_eq!(refused(&[], None), "there is no mesh on this cluster");
        assert_eq!(
            refused(&[install("a"), install("b")], None),
            "there is a mesh in a and in b: say which is meant with --mesh-namespace"
        );
        assert_eq!(
            refused(&[install("a")], Some("c")),
            "no mesh in namespace c: there is one in a (--mesh-namespace)"
        );
    }

    #[test]
    fn what_is_somebody_elses_is_not_overwritten() {
        let there = |object: Value| Some(serde_json::from_value::<DynamicObject>(object).unwrap());
        let role = labelled("ClusterRole", None, "mesh-view", Some("mine"));
        let refused = |install| {
            let found = there(labelled("ClusterRole", None, "mesh-view", install));
            claim(&role, found).err().map(|e| e.to_string())
        };
        assert_eq!(refused(Some("mine")), None);
        assert!(refused(Some("yours")).unwrap().contains("belongs to the mesh in namespace yours"));
        assert!(refused(None).unwrap().contains("none of the mesh's"));
    }

    #[test]
    fn a_namespace_that_was_there_before_does_not_become_ours() {
        let wanted = labelled("Namespace", None, "mine", Some("mine"));
        let there = |install: Option<&str>| {
            let object = json!({ "metadata": { "name": "mine", "labels": install.map(|at| json!({ names::INSTALL_LABEL: at })) } });
            Some(serde_json::from_value(object).unwrap())
        };
        let label_of = |there| label(&claim(&wanted, there).unwrap()).map(str::to_owned);
        assert_eq!(label_of(None).as_deref(), Some("mine"));
        assert_eq!(label_of(there(Some("mine"))).as_deref(), Some("mine"));
        assert_eq!(label_of(there(None)), None);
    }
}
