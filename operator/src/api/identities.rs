//! Who has which certificate, and how far the change to a new root is.

use super::sight::Sight;
use crate::{
    ca::{
        Authority,
        rotation::{self, Phase, Report},
    },
    telemetry::Proxy,
};
use mesh_api::identities::{self, IdentityList, PodIdentity, Rotation, Standing, Waiting};
use mesh_policy::Tables;
use std::time::{Duration, SystemTime};

/// Proxies that are named; the rest is counted.
const MAX_WAITING: usize = 100;

pub fn list(
    tables: &Tables,
    authority: &Authority,
    secret: Option<&str>,
    proxies: &[Proxy],
    sight: &Sight,
    now_ms: u64,
) -> IdentityList {
    let heard = rotation::heard(proxies);
    let wanted = authority.wanted();
    let pods = tables.pods().iter().filter(|pod| pod.meshed && sight.sees(&pod.namespace)).map(|pod| {
        let proxy = heard(pod);
        let expires_s = proxy.and_then(|proxy| proxy.certificate_expires_s);
        PodIdentity {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            workload: pod.workload.clone(),
            identity: pod.identity.clone(),
            certificate_left_s: expires_s.map(|expires_s| expires_s.saturating_sub(now_ms / 1000)),
            issuer: standing(proxy.and_then(|proxy| proxy.issuer), wanted.issuer),
            trust_anchors: standing(proxy.and_then(|proxy| proxy.anchors), wanted.anchors),
        }
    });
    let mut rotation = standing_of(authority, secret, &rotation::reports(tables, proxies, now_ms));
    // Counted are all, named those that one sees.
    rotation.waiting.retain(|waiting| sight.sees(waiting.pod.split('/').next().unwrap_or_default()));
    IdentityList {
        at_ms: now_ms,
        trust_anchor_left_s: left_s(authority.trust_anchor_ends(), now_ms),
        issuer_left_s: left_s(authority.issuer_ends(), now_ms),
        trust_anchors_hash: wanted.anchors,
        rotation,
        pods: pods.collect(),
    }
}

fn standing(reported: Option<u64>, wanted: u64) -> Standing {
    match reported {
        None | Some(0) => Standing::Unknown,
        Some(reported) if reported == wanted => Standing::Current,
        Some(_) => Standing::Other,
    }
}

fn standing_of(authority: &Authority, secret: Option<&str>, reports: &[Report]) -> Rotation {
    let (phase, reason) = match authority.phase() {
        Phase::Refused(why) => (identities::Phase::Refused, *why),
        Phase::Idle => (identities::Phase::Idle, ""),
        Phase::Asked => (identities::Phase::Asked, ""),
        Phase::Spreading => (identities::Phase::Spreading, ""),
        Phase::Renewing => (identities::Phase::Renewing, ""),
    };
    let lagging = |report: &Report| {
        let lag = rotation::lag(authority.phase(), authority.wanted(), report)?;
        Some(Waiting { pod: report.pod.clone(), why: lag.to_string() })
    };
    let mut waiting: Vec<Waiting> = match authority.phase().is_under_way() {
        true => reports.iter().filter_map(lagging).collect(),
        false => vec![],
    };
    let (of, late) = (reports.len() as u32, waiting.len() as u32);
    waiting.truncate(MAX_WAITING);
    let secret = secret.unwrap_or_default().to_owned();
    Rotation { phase, reason: reason.into(), secret, followed: of - late, of, waiting }
}

/// Whole seconds until then, or none.
pub fn left_s(end: SystemTime, now_ms: u64) -> u64 {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms);
    end.duration_since(now).map_or(0, |left| left.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Keys;
    use mesh_policy::{Settings, World};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn a_rotation_names_who_has_not_followed() {
        let now = SystemTime::now();
        let keys = Keys::generate("cluster.local", now).unwrap();
        let asked = Keys { rotation: rotation::Rotation::Asked, ..keys };
        let keys = asked.after(rotation::Step::Begin, "cluster.local", now).unwrap().unwrap();
        let authority = Authority::new(&keys, Duration::from_secs(3600), now).unwrap();
        let pod = |name: &str, ip: &str| {
            let pod = json!({
                "metadata": {"name": name, "namespace": "shop", "labels": {"mesh.dev/control-plane-ns": "mesh"}},
                "spec": {"containers": [{"name": "mesh-proxy"}]},
                "status": {"podIP": ip},
            });
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let names = ["new", "old", "stock", "claimed"];
        let pods: Vec<_> =
            names.into_iter().zip(1..).map(|(name, at)| pod(name, &format!("10.0.0.{at}"))).collect();
        let tables = Tables::build(&World { pods: pods.into(), ..World::default() }, &Settings::default());
        let report = |name: &str, anchors: Option<u64>| Proxy {
            namespace: "shop".into(),
            pod: name.into(),
            identity: "default.shop.serviceaccount.identity.mesh.cluster.local".into(),
            last_seen_ms: 1_000,
            certificate_expires_s: Some(61),
            anchors,
            issuer: anchors.map(|_| authority.wanted().issuer),
            ..Proxy::default()
        };
        let current = Some(authority.wanted().anchors);
        let of_another = Proxy { identity: "cart".into(), ..report("claimed", current) };
        let proxies = [report("new", current), report("old", Some(1)), report("stock", None), of_another];
        let list = list(&tables, &authority, Some("mesh-system/mesh-identity"), &proxies, &Sight::All, 1_000);
        assert_eq!((list.rotation.phase, list.rotation.followed), (identities::Phase::Spreading, 1));
        let waiting: Vec<&str> = list.rotation.waiting.iter().map(|own| own.pod.as_str()).collect();
        assert_eq!(waiting, ["shop/claimed", "shop/old", "shop/stock"]);
        let standings: Vec<_> = list.pods.iter().map(|pod| (pod.trust_anchors, pod.issuer)).collect();
        assert_eq!(
            standings,
            [
                (Standing::Unknown, Standing::Unknown),
                (Standing::Current, Standing::Current),
                (Standing::Other, Standing::Current),
                (Standing::Unknown, Standing::Unknown)
            ]
        );
        assert_eq!(list.pods[1].certificate_left_s, Some(60));
    }
}
