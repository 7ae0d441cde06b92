//! `mesh check --pre`: whether a cluster can take the mesh. Asks the API server, changes nothing.

use crate::cluster::{Cluster, subject};
use k8s_openapi::{
    api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    apimachinery::pkg::version::Info,
};
use kube::{
    Api,
    api::PostParams,
    client::Body,
    core::{ApiResource, GroupVersionKind},
};
use mesh_api::check::{Check, CheckList, Outcome};
use mesh_charts::{
    chart::{self, Object},
    values::Values,
};
use std::time::{Duration, SystemTime};

/// What `kubeVersion` in the chart says.
const OLDEST_MINOR: u32 = 26;
/// The first with sidecars among the init containers.
const NATIVE_SIDECARS_MINOR: u32 = 29;
/// Certificates are valid from a little before they are made; more than that, and a fresh one is not valid yet.
const MOST_SKEW: Duration = Duration::from_secs(10);

pub async fn checks(cluster: &Cluster) -> CheckList {
    let mut checks = vec![];
    let version = match cluster.ask(cluster.client.apiserver_version()).await {
        Ok(version) => version,
        Err(e) => {
            let remedy = "look at the kubeconfig and its context; kubectl version asks the same question";
            checks.push(fail(
                "kubernetes-api",
                "can query the Kubernetes API",
                vec![format!("{e:#}")],
                remedy,
            ));
            return CheckList { checks };
        }
    };
    checks.push(pass("kubernetes-api", "can query the Kubernetes API"));
    checks.push(is_new_enough(&version));
    checks.push(clocks(cluster).await);
    checks.push(gateway_api(cluster).await);
    match chart::render(&Values::default()) {
        Ok(objects) => {
            checks.push(is_not_there(cluster, &objects).await);
            checks.push(may_create(cluster, &objects).await);
        }
        Err(e) => {
            checks.push(fail(INSTALL, "the chart can be rendered", vec![e.to_string()], "report a bug"))
        }
    }
    CheckList { checks }
}

const INSTALL: &str = "pre-install";

fn is_new_enough(version: &Info) -> Check {
    const NAME: &str = "Kubernetes is new enough";
    let minor = minor(version);
    let says = || vec![format!("the API server is {}", version.git_version)];
    match minor {
        Some(minor) if minor >= NATIVE_SIDECARS_MINOR => pass("kubernetes-api", NAME),
        Some(minor) if minor >= OLDEST_MINOR => warn(
            "kubernetes-api",
            NAME,
            says(),
            "proxies stand beside the other containers, and Jobs get none; 1.29 has native sidecars",
        ),
        Some(_) | None => fail("kubernetes-api", NAME, says(), "the mesh needs Kubernetes 1.26 or later"),
    }
}

/// Some providers write `29+`.
fn minor(version: &Info) -> Option<u32> {
    let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    if version.major == "1" { digits.parse().ok() } else { None }
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
        None => warn("kubernetes-api", NAME, vec!["the API server does not say its time".into()], ""),
        Some(date) => match skew(date, before, after) {
            skew if skew <= MOST_SKEW => pass("kubernetes-api", NAME),
            skew => warn(
                "kubernetes-api",
                NAME,
                vec![format!("this machine and the API server differ by {} s", skew.as_secs())],
                "run a time service on all nodes: certificates are valid from now on, and now must be the same everywhere",
            ),
        },
    }
}

fn skew(date: SystemTime, before: SystemTime, after: SystemTime) -> Duration {
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

async fn is_not_there(cluster: &Cluster, objects: &[Object]) -> Check {
    const NAME: &str = "no mesh is there yet";
    let mut there = vec![];
    for object in objects {
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

fn pass(group: &str, name: &str) -> Check {
    check(group, name, Outcome::Pass, vec![], "")
}

fn warn(group: &str, name: &str, findings: Vec<String>, remedy: &str) -> Check {
    check(group, name, Outcome::Warn, findings, remedy)
}

fn fail(group: &str, name: &str, findings: Vec<String>, remedy: &str) -> Check {
    check(group, name, Outcome::Fail, findings, remedy)
}

fn check(group: &str, name: &str, outcome: Outcome, findings: Vec<String>, remedy: &str) -> Check {
    Check { group: group.into(), name: name.into(), outcome, findings, remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (major, minor, expected) in [
            ("1", "34", Outcome::Pass),
            ("1", "29+", Outcome::Pass),
            ("1", "28", Outcome::Warn),
            ("1", "20", Outcome::Fail),
            ("2", "30", Outcome::Fail),
            ("", "", Outcome::Fail),
        ] {
            let version = Info { major: major.into(), minor: minor.into(), ..Default::default() };
            assert_eq!(is_new_enough(&version).outcome, expected, "{major}.{minor}");
        }
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
