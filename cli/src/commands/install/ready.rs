//! Waits until what was applied is at work, or says what keeps it.

use crate::cluster::Cluster;
use anyhow::{anyhow, bail};
use k8s_openapi::{
    api::{
        admissionregistration::v1::MutatingWebhookConfiguration,
        apps::v1::Deployment,
        core::v1::{ContainerStatus, Pod},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::ListParams,
    runtime::wait::{self, await_condition, conditions},
};
use mesh_api::names;
use mesh_charts::chart::Object;
use std::time::Duration;

/// A Pod that was told to end answers for some seconds more, and injects what was said before. One that takes longer than this is of
/// a node that is lost, and answers nobody.
const ENDING: Duration = Duration::from_secs(15);

pub async fn wait(cluster: &Cluster, objects: &[Object], patience: Duration) -> anyhow::Result<()> {
    let waited = tokio::time::timeout(patience, all(cluster, objects)).await;
    if let Ok(result) = waited {
        return result;
    }
    let seconds = patience.as_secs();
    let Some(deployment) = objects.iter().find(|object| object.kind() == "Deployment") else {
        bail!("not ready after {seconds} s");
    };
    let reasons = reasons(cluster, namespace(deployment)).await?;
    bail!("the operator is not ready after {seconds} s:\n{reasons}");
}

async fn all(cluster: &Cluster, objects: &[Object]) -> anyhow::Result<()> {
    for object in objects {
        match object.kind() {
            "CustomResourceDefinition" => {
                let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
                await_condition(api, object.name(), conditions::is_crd_established())
                    .await
                    .map_err(failed)?;
            }
            "Deployment" => {
                let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), namespace(object));
                await_condition(api, object.name(), rolled_out).await.map_err(failed)?;
                if let Ok(gone) = tokio::time::timeout(ENDING, older_gone(cluster, namespace(object))).await {
                    gone?;
                }
            }
            "MutatingWebhookConfiguration" => {
                let api: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
                await_condition(api, object.name(), is_trusted).await.map_err(failed)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Until the operator that leads has written whom to trust, the API server asks nobody, and Pods start without a proxy.
fn is_trusted(webhooks: Option<&MutatingWebhookConfiguration>) -> bool {
    let mut all = webhooks.into_iter().flat_map(|own| own.webhooks.iter().flatten()).peekable();
    all.peek().is_some()
        && all.all(|own| own.client_config.ca_bundle.as_ref().is_some_and(|ca| !ca.0.is_empty()))
}

fn failed(e: wait::Error) -> anyhow::Error {
    anyhow!("while waiting: {e}")
}

/// Those that are ending are in no count of the Deployment's.
async fn older_gone(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let pods = cluster.ask(api.list(&ListParams::default().labels(names::OPERATOR_LABELS))).await?;
    for pod in pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()) {
        if let (Some(name), Some(uid)) = (pod.metadata.name, pod.metadata.uid) {
            await_condition(api.clone(), &name, conditions::is_deleted(&uid)).await.map_err(failed)?;
        }
    }
    Ok(())
}

/// Every replica is of this version and answers, and no older one is left but those that are ending.
fn rolled_out(deployment: Option<&Deployment>) -> bool {
    let Some(deployment) = deployment else { return false };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && [status.replicas, status.updated_replicas, status.available_replicas]
                .into_iter()
                .all(|count| count == Some(wanted))
    })
}

/// A line for each of the operator's Pods that is not ready.
async fn reasons(cluster: &Cluster, namespace: &str) -> anyhow::Result<String> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let pods = cluster.ask(api.list(&ListParams::default().labels(names::OPERATOR_LABELS))).await?;
    let mut lines: Vec<String> = pods.iter().filter_map(reason).collect();
    lines.extend(pods.iter().find_map(remedy).map(|remedy| format!("  → {remedy}")));
    if lines.is_empty() && !pods.items.is_empty() {
        return Ok(
            "  its Pods are, but none leads and has written the webhooks' caBundle: see their log".to_owned()
        );
    }
    if lines.is_empty() {
        let deployment = names::OPERATOR;
        return Ok(format!("  no Pod was made; see kubectl describe deployment -n {namespace} {deployment}"));
    }
    Ok(lines.join("\n"))
}

pub fn reason(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled" && condition.status == "False" && condition.message.is_some()
    });
    let container = status.container_statuses.iter().flatten().find(|container| !container.ready);
    let why = match (unscheduled, container) {
        (Some(condition), _) => condition.message.clone().unwrap_or_default(),
        (None, Some(container)) => container_reason(container),
        (None, None) => return None,
    };
    Some(format!("  Pod {name}: {why}"))
}

/// Reasons of kubelet's for which a container waits whose image is not there.
const NO_IMAGE: [&str; 4] = ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"];

/// What to do about it, where that is known.
pub fn remedy(pod: &Pod) -> Option<&'static str> {
    let mut containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let lacks_image = |container: &ContainerStatus| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting.and_then(|waiting| waiting.reason.as_deref()).is_some_and(|why| NO_IMAGE.contains(&why))
    };
    containers.any(lacks_image).then_some(
        "push the mesh's images where the nodes can pull them, and say where: mesh upgrade --apply --set images.registry=…/ \
         (and images.pullSecrets, where that asks who pulls)",
    )
}

fn container_reason(container: &ContainerStatus) -> String {
    let state = container.state.as_ref();
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()).or(last) {
        let message = ended.message.as_deref().unwrap_or("no message").trim();
        return format!("ended with {}: {message}", ended.exit_code);
    }
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        let reason = waiting.reason.as_deref().unwrap_or("waiting");
        let image = match NO_IMAGE.contains(&reason) {
            true => format!(" of {}", container.image),
            false => String::new(),
        };
        return match &waiting.message {
            Some(message) => format!("{reason}{image}: {message}"),
            None => format!("{reason}{image}"),
        };
    }
    "runs, and is not ready yet: see its log".into()
}

fn namespace(object: &Object) -> &str {
    object.value["metadata"]["namespace"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(status: Value) -> Deployment {
        let deployment = json!({ "metadata": { "generation": 2 }, "spec": { "replicas": 1, "selector": {}, "template": {} }, "status": status });
        serde_json::from_value(deployment).unwrap()
    }

    #[test]
    fn a_rollout_is_over_when_only_new_replicas_are_there_and_answer() {
        for (status, expected) in [
            (
                json!({ "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 }),
                true,
            ),
            (
                json!({ "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 }),
                false,
            ),
            (
                json!({ "observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2 }),
                false,
            ),
            (json!({ "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1 }), false),
            (json!({}), false),
        ] {
            assert_eq!(rolled_out(Some(&deployment(status.clone()))), expected, "{status}");
        }
        assert!(!rolled_out(None));
    }

    #[test]
    fn a_pod_says_why_it_is_not_ready() {
        let pod = |status: Value| {
            let pod = json!({ "metadata": { "name": "o" }, "status": status });
            reason(&serde_json::from_value(pod).unwrap())
        };
        let container = |state: Value| json!({ "containerStatuses": [{ "name": "operator", "image": "r/o:1", "imageID": "", "restartCount": 0, "ready": false, "state": state }] });
        assert_eq!(
            pod(container(
                json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } })
            )),
            Some("  Pod o: ImagePullBackOff of r/o:1: no such image".into())
        );
        assert_eq!(
            pod(container(json!({ "terminated": { "exitCode": 64, "message": "unknown flag\n" } }))),
            Some("  Pod o: ended with 64: unknown flag".into())
        );
        assert_eq!(
            pod(
                json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available" }] })
            ),
            Some("  Pod o: 0/1 nodes are available".into())
        );
        assert_eq!(pod(json!({})), None);
    }
}
