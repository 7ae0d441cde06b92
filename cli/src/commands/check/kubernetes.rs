//! The cluster itself: whether its API server answers, is new enough, agrees on the time, and knows routes.

use super::made::{fail, pass, unless, warn};
use crate::cluster::{Cluster, is_forbidden};
use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::version::Info};
use kube::{Api, api::ListParams, client::Body};
use mesh_api::check::Check;
use mesh_charts::kubernetes::{NATIVE_SIDECARS, OLDEST, minor};
use std::time::{Duration, SystemTime};

const GROUP: &str = "kubernetes-api";
/// A Node has tens of kilobytes: so many are read at a time.
const PAGE: u32 = 100;
/// So many findings say enough of nodes that are alike.
const MOST_NODES: usize = 5;
/// Certificates are valid from a little before they are made; more than that, and a fresh one is not valid yet.
const MOST_SKEW: Duration = Duration::from_secs(10);

/// Where the first of them fails, nothing else can be asked.
pub async fn checks(cluster: &Cluster) -> Result<Vec<Check>, Check> {
    const NAME: &str = "can query the Kubernetes API";
    let version = cluster.ask(cluster.client.apiserver_version()).await.map_err(|e| {
        let remedy = "look at the kubeconfig and its context; kubectl version asks the same question";
        fail(GROUP, NAME, vec![format!("{cluster}: {e:#}")], remedy)
    })?;
    let old_nodes = match cluster.ask(old_nodes(cluster)).await {
        Ok(old_nodes) => old_nodes,
        // Told of the API server alone.
        Err(e) if is_forbidden(&e) => vec![],
        Err(e) => vec![format!("the nodes' versions are not known: {e:#}")],
    };
    let is_new_enough = is_new_enough(&version, old_nodes);
    Ok(vec![pass(GROUP, NAME), is_new_enough, clocks(cluster).await, gateway_api(cluster).await])
}

fn is_new_enough(version: &Info, mut old_nodes: Vec<String>) -> Check {
    const NAME: &str = "Kubernetes is new enough";
    let says = || vec![format!("the API server is {}", version.git_version)];
    match minor(&format!("{}.{}", version.major, version.minor)) {
        Some(minor) if minor >= NATIVE_SIDECARS => {
            let more = old_nodes.len().saturating_sub(MOST_NODES);
            if more > 0 {
                old_nodes.truncate(MOST_NODES);
                old_nodes.push(format!("and {more} nodes more"));
            }
            let remedy = "until no node is older than 1.29, proxies stand beside the other containers, and Jobs get none; \
                          then restart the operator, which looks when it starts";
            unless(old_nodes, GROUP, NAME, remedy)
        }
        Some(minor) if minor >= OLDEST => warn(
            GROUP,
            NAME,
            says(),
            "proxies stand beside the other containers, and Jobs get none; 1.29 has native sidecars",
        ),
        Some(_) | None => {
            fail(GROUP, NAME, says(), &format!("the mesh needs Kubernetes 1.{OLDEST} or later"))
        }
    }
}

/// Those that refuse Pods with a native sidecar.
async fn old_nodes(cluster: &Cluster) -> kube::Result<Vec<String>> {
    let (nodes, mut page) = (Api::<Node>::all(cluster.client.clone()), ListParams::default().limit(PAGE));
    let mut old = vec![];
    loop {
        let read = nodes.list(&page).await?;
        for node in read.items {
            let info = node.status.and_then(|status| status.node_info).unwrap_or_default();
            if minor(&info.kubelet_version).is_some_and(|minor| minor < NATIVE_SIDECARS) {
                let name = node.metadata.name.unwrap_or_default();
                old.push(format!("node {name} is {}", info.kubelet_version));
            }
        }
        match read.metadata.continue_ {
            Some(next) if !next.is_empty() => page = page.continue_token(&next),
            _ => return Ok(old),
        }
    }
}

/// The `Date` of an answer, which has whole seconds, against our own clock before and after.
async fn clocks(cluster: &Cluster) -> Check {
    const NAME: &str = "no clock skew";
    let ask = async {
        let request = http::Request::get("/version").body(Body::empty()).map_err(kube::Error::HttpError)?;
        cluster.client.send(request).await
    };
    let before = SystemTime::now();
    let answer = cluster.ask(ask).await;
    let after = SystemTime::now();
    let date = answer.ok().and_then(|answer| {
        let date = answer.headers().get(http::header::DATE)?.to_str().ok()?;
        httpdate::parse_http_date(date).ok()
    });
    match date {
        None => warn(GROUP, NAME, vec!["the API server does not say its time".into()], ""),
        Some(date) => differ(GROUP, NAME, "the API server", skew(date, before, after)),
    }
}

/// How far somebody's clock is from ours.
pub fn differ(group: &str, name: &str, who: &str, skew: Duration) -> Check {
    if skew <= MOST_SKEW {
        return pass(group, name);
    }
    warn(
        group,
        name,
        vec![format!("this machine and {who} differ by {} s", skew.as_secs())],
        "run a time service on all nodes: certificates are valid from now on, and now must be the same everywhere",
    )
}

/// `date` has whole seconds; ours are those before and after the question.
pub fn skew(date: SystemTime, before: SystemTime, after: SystemTime) -> Duration {
    let behind = before.duration_since(date + Duration::from_secs(1)).unwrap_or_default();
    let ahead = date.duration_since(after).unwrap_or_default();
    behind.max(ahead)
}

async fn gateway_api(cluster: &Cluster) -> Check {
    const NAME: &str = "the Gateway API is there";
    let group = async {
        let groups = cluster.client.list_api_groups().await?;
        Ok(groups.groups.into_iter().find(|group| group.name == "gateway.networking.k8s.io"))
    };
    match cluster.ask(group).await {
        Ok(Some(group)) if group.versions.iter().any(|version| version.version == "v1") => {
            pass("routes", NAME)
        }
        Ok(Some(_)) => warn(
            "routes",
            NAME,
            vec!["its version is older than v1".into()],
            "install a newer one: the mesh reads HTTPRoute and GRPCRoute v1",
        ),
        Ok(None) => warn(
            "routes",
            NAME,
            vec!["HTTPRoute and GRPCRoute are unknown".into()],
            "the mesh works without; for routes install the Gateway API's definitions, now or later",
        ),
        Err(e) => warn("routes", NAME, vec![format!("{e:#}")], ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::check::Outcome;

    #[test]
    fn versions() {
        for (major, minor, expected) in [
            ("1", "34", Outcome::Pass),
            ("1", "29+", Outcome::Pass),
            ("1", "28", Outcome::Warn),
            ("1", "27", Outcome::Fail),
            ("2", "30", Outcome::Fail),
            ("", "", Outcome::Fail),
        ] {
            let version = Info { major: major.into(), minor: minor.into(), ..Default::default() };
            assert_eq!(is_new_enough(&version, vec![]).outcome, expected, "{major}.{minor}");
        }
    }

    #[test]
    fn many_old_nodes_are_counted() {
        let version = Info { major: "1".into(), minor: "29".into(), ..Default::default() };
        let nodes = |count| (0..count).map(|n| format!("node n{n} is v1.28.0")).collect::<Vec<_>>();
        assert_eq!(is_new_enough(&version, nodes(5)).findings, nodes(5));
        let findings = is_new_enough(&version, nodes(7)).findings;
        assert_eq!((findings.len(), findings[5].as_str()), (6, "and 2 nodes more"));
    }

    #[test]
    fn a_date_of_whole_seconds_is_no_skew() {
        let at = |seconds: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
        for (date, before, after, expected) in [
            (100.0, 100.2, 100.3, 0.0),
            (100.0, 100.99, 101.1, 0.0),
            (160.0, 100.0, 100.5, 59.5),
            (100.0, 161.0, 161.1, 60.0),
        ] {
            assert_eq!(skew(at(date), at(before), at(after)), Duration::from_secs_f64(expected));
        }
    }
}
