//! `mesh check` on a cluster that has a mesh: what the API server knows of it, then what the operator knows.

use super::{
    injector, kubernetes,
    made::{fail, pass, unless, unseen},
};
use crate::{
    api::Client,
    arguments::CheckOptions,
    cluster::{Cluster, Operator, is_forbidden, subject},
    commands::{install::ready, upgrade, values},
    installation,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ListParams, ObjectMeta},
};
use mesh_api::{
    check::{Check, CheckList},
    names,
};
use mesh_charts::chart;
use serde_json::Value;
use std::time::{Duration, SystemTime};

const CONTROL_PLANE: &str = "control plane";
const DATA_PLANE: &str = "data plane";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Findings that are listed.
const MAX_FINDINGS: usize = 20;

pub async fn checks(operator: &Operator, api: &Client, options: &CheckOptions) -> Vec<Check> {
    let (cluster, namespace) = (operator.cluster(), operator.namespace());
    let mut checks = vec![];
    if !options.proxy {
        match kubernetes::checks(cluster).await {
            Ok(of_kubernetes) => checks.extend(of_kubernetes),
            Err(failed) => return vec![failed],
        }
        if let Some(absent) = absent(cluster, namespace).await {
            checks.push(absent);
            return checks;
        }
        checks.push(objects(cluster, namespace).await);
        checks.extend(replicas(cluster, namespace).await);
        checks.push(injector::check(cluster).await);
        checks.extend(version(api).await);
    }
    match of_the_operator(api, options).await {
        Ok(list) => {
            checks.extend(list.checks.into_iter().filter(|check| !options.proxy || is_of_proxies(check)));
        }
        Err(e) => {
            let answers = api.get::<Value>("/api/v1/version", &[]).await.is_ok();
            let named = options.namespace.as_deref().filter(|_| answers);
            checks.push(unanswered(&format!("{e:#}"), named, namespace));
        }
    }
    checks.push(skipped(cluster, options.namespace.as_deref()).await);
    // What belongs together stands together; within a group the order stays.
    let mut groups: Vec<String> = vec![];
    for check in &checks {
        if !groups.contains(&check.group) {
            groups.push(check.group.clone());
        }
    }
    checks.sort_by_key(|check| groups.iter().position(|group| *group == check.group));
    checks
}

pub async fn of_the_operator(api: &Client, options: &CheckOptions) -> anyhow::Result<CheckList> {
    api.get("/api/v1/checks", &[("ns", options.namespace.as_deref())]).await
}

/// Who answers else, and not about the namespace that was `named`, has something against that one.
fn unanswered(why: &str, named: Option<&str>, mesh_namespace: &str) -> Check {
    let (name, remedy) = match named {
        Some(named) => (
            format!("the operator knows namespace {named}"),
            "name one that there is, and whose Pods you may get".to_owned(),
        ),
        None => (
            "the operator answers".to_owned(),
            format!("its log says more: kubectl logs -n {mesh_namespace} deploy/{}", names::OPERATOR),
        ),
    };
    fail(CONTROL_PLANE, &name, vec![why.to_owned()], &remedy)
}

pub fn is_of_proxies(check: &Check) -> bool {
    [DATA_PLANE, "identity"].contains(&check.group.as_str())
}

/// Where there is no mesh, whatever else could be said follows from that.
async fn absent(cluster: &Cluster, namespace: &str) -> Option<Check> {
    let kept = upgrade::kept(cluster, namespace).await.err().filter(|e| !is_forbidden(e));
    kept?;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let pods = cluster.ask(pods.list(&ListParams::default().labels(names::OPERATOR_LABELS))).await.ok()?;
    let elsewhere = installation::elsewhere(cluster).await.filter(|other| other != namespace);
    let (finding, remedy) = match elsewhere {
        Some(other) => {
            (format!("it is in namespace {other}"), format!("mesh check --mesh-namespace {other}"))
        }
        None => ("there is none on this cluster".to_owned(), "mesh install --apply".to_owned()),
    };
    let name = format!("there is a mesh in namespace {namespace}");
    pods.items.is_empty().then(|| fail(CONTROL_PLANE, &name, vec![finding], &remedy))
}

/// The chart's objects, RBAC and definitions among them, for the values that are in force.
async fn objects(cluster: &Cluster, namespace: &str) -> Check {
    const NAME: &str = "everything that the mesh is made of is there";
    const REMEDY: &str = "mesh upgrade --apply makes it anew";
    let rendered = async {
        let kept = upgrade::kept(cluster, namespace).await?;
        anyhow::Ok(chart::render(&values::read(&Default::default(), None, Some(&kept))?)?)
    };
    let (mut missing, mut hidden) = (vec![], vec![]);
    match rendered.await {
        Ok(objects) => {
            for object in &objects {
                match cluster.get(&object.value).await {
                    Ok(Some(_)) => {}
                    Ok(None) => missing.push(format!("{} is missing", subject(&object.value))),
                    Err(e) if is_forbidden(&e) => hidden.push(subject(&object.value)),
                    Err(e) => missing.push(format!("{e:#}")),
                }
            }
        }
        Err(e) if is_forbidden(&e) => {
            hidden.push(format!("ConfigMap {namespace}/{}", names::VALUES_CONFIG_MAP))
        }
        Err(e) => missing.push(format!("{e:#}")),
    }
    if missing.is_empty() && !hidden.is_empty() {
        return unseen(&hidden, CONTROL_PLANE, NAME);
    }
    unless(missing, CONTROL_PLANE, NAME, REMEDY)
}

async fn replicas(cluster: &Cluster, namespace: &str) -> Vec<Check> {
    const READY: &str = "the operator's Pods are ready";
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let pods = cluster.ask(pods.list(&ListParams::default().labels(names::OPERATOR_LABELS))).await;
    match pods {
        Ok(pods) => vec![are_ready(&pods.items), are_of_one_version(&pods.items)],
        Err(e) => vec![fail(CONTROL_PLANE, READY, vec![format!("{e:#}")], "ask for the right to list them")],
    }
}

fn are_ready(pods: &[Pod]) -> Check {
    const NAME: &str = "the operator's Pods are ready";
    if pods.is_empty() {
        return fail(CONTROL_PLANE, NAME, vec!["there is none".into()], "mesh install --apply");
    }
    let findings: Vec<String> = pods.iter().filter_map(ready::reason).collect();
    if findings.is_empty() {
        return pass(CONTROL_PLANE, NAME);
    }
    let findings = findings.iter().map(|finding| finding.trim().to_owned()).collect();
    let remedy = pods.iter().find_map(ready::remedy);
    fail(
        CONTROL_PLANE,
        NAME,
        findings,
        remedy.unwrap_or("kubectl describe and kubectl logs of the Pod say more"),
    )
}

fn are_of_one_version(pods: &[Pod]) -> Check {
    let version = |pod: &Pod| pod.metadata.labels.as_ref()?.get("app.kubernetes.io/version").cloned();
    let findings = pods.iter().filter_map(|pod| {
        let (name, version) = (pod.metadata.name.as_deref()?, version(pod)?);
        (version != VERSION).then(|| format!("Pod {name} is {version}, this program is {VERSION}"))
    });
    unless(
        findings.collect(),
        CONTROL_PLANE,
        "the operator's Pods are of this program's version",
        "mesh upgrade --apply, or take the program of their version",
    )
}

/// What the operator says of itself.
async fn version(api: &Client) -> Vec<Check> {
    let before = SystemTime::now();
    let Ok(answer) = api.get::<Value>("/api/v1/version", &[]).await else {
        // That it does not answer is said by its own checks.
        return vec![];
    };
    let after = SystemTime::now();
    let Some(now_ms) = answer["now_ms"].as_u64() else { return vec![] };
    // Whole seconds, as `skew` wants them.
    let date = SystemTime::UNIX_EPOCH + Duration::from_secs(now_ms / 1000);
    let skew = kubernetes::skew(date, before, after);
    vec![kubernetes::differ(CONTROL_PLANE, "the operator's clock is right", "the operator", skew)]
}

/// Passes whatever it finds: each was told why on the Pod itself.
async fn skipped(cluster: &Cluster, namespace: Option<&str>) -> Check {
    const NAME: &str = "Pods without a proxy are so for a reason";
    let pods: Api<Pod> = match namespace {
        Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
        None => Api::all(cluster.client.clone()),
    };
    match cluster.ask(pods.list_metadata(&ListParams::default())).await {
        Ok(pods) => {
            let findings = reasons(pods.items.iter().map(|pod| &pod.metadata));
            Check { findings, ..pass(DATA_PLANE, NAME) }
        }
        Err(e) => unless(
            vec![format!("{e:#}")],
            DATA_PLANE,
            NAME,
            "name a namespace whose Pods you may list with -n",
        ),
    }
}

fn reasons<'a>(pods: impl Iterator<Item = &'a ObjectMeta>) -> Vec<String> {
    let mut found: Vec<String> = pods
        .filter_map(|pod| {
            let reason = pod.annotations.as_ref()?.get(names::INJECT_STATUS)?.strip_prefix("skipped:")?;
            let (namespace, name) = (pod.namespace.as_deref()?, pod.name.as_deref()?);
            Some(format!("{namespace}/{name}: {}", reason.trim()))
        })
        .collect();
    if found.len() > MAX_FINDINGS {
        let more = found.len() - MAX_FINDINGS;
        found.truncate(MAX_FINDINGS);
        found.push(format!("and {more} more"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::check::Outcome;
    use serde_json::json;

    fn pod(version: &str, ready: bool) -> Pod {
        let container = json!({
            "name": "operator", "image": "r/o:1", "imageID": "", "restartCount": 0, "ready": ready,
            "state": if ready { json!({ "running": {} }) } else { json!({ "waiting": { "reason": "ImagePullBackOff" } }) },
        });
        let pod = json!({
            "metadata": { "name": "o", "labels": { "app.kubernetes.io/version": version } },
            "status": { "containerStatuses": [container] },
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn pods_that_are_not_ready_say_why() {
        assert_eq!(are_ready(&[pod(VERSION, true)]).outcome, Outcome::Pass);
        assert_eq!(are_ready(&[]).outcome, Outcome::Fail);
        let check = are_ready(&[pod(VERSION, true), pod(VERSION, false)]);
        assert_eq!(
            (check.outcome, &check.findings[..]),
            (Outcome::Fail, &["Pod o: ImagePullBackOff of r/o:1".to_owned()][..])
        );
        assert!(check.remedy.contains("images.registry"), "{}", check.remedy);
    }

    #[test]
    fn a_namespace_that_is_refused_is_no_operator_that_does_not_answer() {
        let check = unanswered("no namespace \"shopp\"", Some("shopp"), "mesh-system");
        assert_eq!(
            (check.outcome, check.name.as_str()),
            (Outcome::Fail, "the operator knows namespace shopp")
        );
        assert_eq!(check.findings, ["no namespace \"shopp\""]);
        let check = unanswered("connection refused", None, "mesh-system");
        assert!(check.remedy.contains("logs -n mesh-system"), "{}", check.remedy);
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(are_of_one_version(&[pod(VERSION, true)]).outcome, Outcome::Pass);
        let check = are_of_one_version(&[pod("9.9.9", true)]);
        assert_eq!(check.outcome, Outcome::Warn);
        assert_eq!(check.findings, [format!("Pod o is 9.9.9, this program is {VERSION}")]);
    }

    #[test]
    fn skipped_pods_are_listed_with_their_reasons_up_to_a_bound() {
        let meta = |name: String, status: &str| ObjectMeta {
            namespace: Some("shop".into()),
            name: Some(name),
            annotations: Some([(names::INJECT_STATUS.to_owned(), status.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let some = [meta("a".into(), "injected"), meta("b".into(), "skipped: it uses the node's network")];
        assert_eq!(reasons(some.iter()), ["shop/b: it uses the node's network"]);
        let many: Vec<ObjectMeta> = (0..25).map(|i| meta(format!("p{i}"), "skipped: x")).collect();
        let found = reasons(many.iter());
        assert_eq!((found.len(), found[20].as_str()), (21, "and 5 more"));
    }
}
