//! Whether new Pods get their proxy: the API server is asked to make one that asks for it, and to forget it. Its answer has come by
//! every part on the way: webhook configuration, its caBundle, Service, network, certificate, operator.

use super::made::{fail, pass, warn};
use crate::cluster::{Cluster, is_forbidden};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use mesh_api::{check::Check, names};
use serde_json::json;

const GROUP: &str = "webhook";
const NAME: &str = "a new Pod that asks for a proxy gets one";
/// Every cluster has it, and no mesh leaves it out.
const NAMESPACE: &str = "default";
const REMEDY: &str = "the API server has to reach port 8443 of the operator's Pods (firewall, NetworkPolicy), and the caBundle in \
     MutatingWebhookConfiguration mesh-operator has to be the mesh's root: the operator writes it within 30 s";

pub async fn check(cluster: &Cluster) -> Check {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "mesh-check", "annotations": { names::INJECT: "enabled" } },
        "spec": {
            "containers": [{
                "name": "none",
                "image": "none:0",
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                    "runAsNonRoot": true,
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
            }],
        },
    });
    let pod: Pod = match serde_json::from_value(pod) {
        Ok(pod) => pod,
        Err(e) => return warn(GROUP, NAME, vec![e.to_string()], "report a bug"),
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let forgotten = PostParams { dry_run: true, ..PostParams::default() };
    match cluster.ask(pods.create(&forgotten, &pod)).await {
        Ok(made) => verdict(&made),
        // Pod Security refuses the proxy there, which it can only where there is one.
        Err(e) if is_forbidden(&e) && format!("{e:#}").contains(names::PROXY_CONTAINER) => pass(GROUP, NAME),
        Err(e) if is_unanswered(&format!("{e:#}")) => fail(GROUP, NAME, vec![format!("{e:#}")], REMEDY),
        Err(e) => warn(
            GROUP,
            NAME,
            vec![format!("cannot be tried in namespace {NAMESPACE}: {e:#}")],
            "look at a new Pod of a meshed namespace: its annotation mesh.dev/inject-status says what became of it",
        ),
    }
}

/// Whoever was asked leaves their word, whatever it is.
fn verdict(made: &Pod) -> Check {
    let annotations = made.metadata.annotations.as_ref();
    if annotations.is_some_and(|annotations| annotations.contains_key(names::INJECT_STATUS)) {
        return pass(GROUP, NAME);
    }
    fail(
        GROUP,
        NAME,
        vec!["the API server made a Pod without asking the operator, or without an answer".into()],
        REMEDY,
    )
}

/// With `failurePolicy: Fail` there is no Pod without an answer. Other webhooks may fail as well, which says nothing of ours.
fn is_unanswered(error: &str) -> bool {
    error.contains("failed calling webhook") && error.contains(".inject.mesh.dev\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::check::Outcome;

    #[test]
    fn who_was_asked_has_left_their_word() {
        let outcome = |annotations| {
            let pod = json!({ "metadata": { "annotations": annotations } });
            verdict(&serde_json::from_value(pod).unwrap()).outcome
        };
        assert_eq!(outcome(json!({ "mesh.dev/inject-status": "injected" })), Outcome::Pass);
        assert_eq!(outcome(json!({ "mesh.dev/inject-status": "skipped: hostNetwork" })), Outcome::Pass);
        assert_eq!(outcome(json!({ "mesh.dev/inject": "enabled" })), Outcome::Fail);
    }

    #[test]
    fn only_our_own_webhook_is_ours_to_answer() {
        let failed =
            |name: &str| format!("failed calling webhook \"{name}\": failed to call webhook: Post: EOF");
        assert!(
            is_unanswered(&failed("pod.inject.mesh.dev"))
                && is_unanswered(&failed("namespace.inject.mesh.dev"))
        );
        assert!(!is_unanswered(&failed("validate.kyverno.svc")));
        assert!(!is_unanswered("admission webhook \"pod.inject.mesh.dev\" denied the request"));
    }
}
