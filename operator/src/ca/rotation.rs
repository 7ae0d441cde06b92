//! The change to a new root while everything runs. All state is in the keys, so that whoever holds the Lease goes on where another
//! stopped; here is decided, from them and from what proxies report, what comes next.
//!
//! 1. `Spreading`: the trust anchors are {old, new}, the old issuer signs. It ends when every proxy has the new anchor.
//! 2. `Renewing`: the trust anchors are {new, old}, the new issuer signs. A proxy whose certificate is not under the first anchor
//!    asks for another. It ends when every proxy's certificate is the new issuer's.
//! 3. The old anchor is dropped.
//!
//! At every moment each proxy trusts what any other shows. So nothing has a deadline: whoever does not follow is named, and waited for.

use super::keys::{self, Keys};
use crate::telemetry::Proxy;
use mesh_policy::{PodInfo, Tables};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What the keys hold beside anchors and issuer.
#[derive(Clone, PartialEq, Eq)]
pub enum Rotation {
    None,
    /// Somebody wants new roots.
    Asked,
    Spreading(Root),
    /// The new root, whose key is that of the keys by now.
    Renewing {
        root_pem: String,
    },
}

#[derive(Clone, PartialEq, Eq)]
pub struct Root {
    pub key_pem: String,
    pub pem: String,
}

/// The same without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not here, and why.
    Refused(&'static str),
    Idle,
    Asked,
    Spreading,
    Renewing,
}

impl Phase {
    /// Whether proxies are waited for.
    pub fn is_under_way(&self) -> bool {
        matches!(self, Phase::Asked | Phase::Spreading | Phase::Renewing)
    }
}

/// What a proxy reports of its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `namespace/pod`
    pub pod: String,
    /// Since its last report; `None` for one that was never heard.
    pub silent: Option<Duration>,
    /// Fingerprints.
    pub anchors: Option<u64>,
    pub issuer: Option<u64>,
}

/// The proxy of a Pod, by what was reported under the Pod's own identity: of a Pod that is not known yet, another could have spoken.
pub fn heard<'a>(proxies: &'a [Proxy]) -> impl Fn(&PodInfo) -> Option<&'a Proxy> {
    let heard: BTreeMap<(&str, &str), &'a Proxy> =
        proxies.iter().map(|proxy| ((&*proxy.namespace, &*proxy.pod), proxy)).collect();
    move |pod| {
        let proxy = heard.get(&(&*pod.namespace, &*pod.name)).copied()?;
        (pod.identity.as_deref() == Some(&*proxy.identity)).then_some(proxy)
    }
}

/// What is known of every Pod that runs a proxy. Those count that the cluster has, heard or not: who is not heard would be cut off.
pub fn reports(tables: &Tables, proxies: &[Proxy], now_ms: u64) -> Vec<Report> {
    let heard = heard(proxies);
    let report = |pod: &Arc<PodInfo>| {
        let proxy = heard(pod);
        Report {
            pod: format!("{}/{}", pod.namespace, pod.name),
            silent: proxy.map(|proxy| Duration::from_millis(now_ms.saturating_sub(proxy.last_seen_ms))),
            anchors: proxy.and_then(|proxy| proxy.anchors),
            issuer: proxy.and_then(|proxy| proxy.issuer),
        }
    };
    tables.pods().iter().filter(|pod| pod.meshed).map(report).collect()
}

/// Why a proxy is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lag {
    Unheard,
    Silent(Duration),
    /// It reports, but nothing of this: a proxy of another kind, or an old one.
    Mute,
    Anchors,
    Issuer,
}

impl std::fmt::Display for Lag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Lag::Unheard => write!(f, "has not reported (if it never does: restart the Pod)"),
            Lag::Silent(for_) => write!(f, "silent for {} s", for_.as_secs()),
            Lag::Mute => write!(f, "does not say which trust anchors it has: restart the Pod"),
            Lag::Anchors => write!(f, "has not read the new trust anchors yet"),
            Lag::Issuer => write!(f, "has a certificate of the old issuer"),
        }
    }
}

/// What proxies should report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub anchors: u64,
    pub issuer: u64,
}

/// A proxy reports every second.
const SILENT: Duration = Duration::from_secs(15);

/// What keeps a proxy from what the phase waits for.
pub fn lag(phase: &Phase, wanted: Wanted, report: &Report) -> Option<Lag> {
    match report.silent {
        None => return Some(Lag::Unheard),
        Some(silent) if silent > SILENT => return Some(Lag::Silent(silent)),
        Some(_) => {}
    }
    let (Some(anchors), Some(issuer)) = (report.anchors, report.issuer) else { return Some(Lag::Mute) };
    match phase {
        Phase::Refused(_) | Phase::Idle | Phase::Asked => None,
        Phase::Spreading => (anchors != wanted.anchors).then_some(Lag::Anchors),
        Phase::Renewing => (issuer != wanted.issuer).then_some(Lag::Issuer),
    }
}

/// What is done to the keys next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Begin,
    Switch,
    Finish,
}

/// What counts beside the proxies.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Every Namespace and the API server have been told of the anchors that the keys hold.
    pub published: bool,
    /// For how long the keys have been as they are.
    pub unchanged: Duration,
}

/// A phase lasts at least this long: a Pod that is just being started, and is not known yet, has mounted the anchors by then; other
/// replicas have read the keys.
const LEAST: Duration = Duration::from_secs(15);

pub fn step(phase: &Phase, wanted: Wanted, scene: Scene, reports: &[Report]) -> Option<Step> {
    let done = || {
        let followed = reports.iter().all(|report| lag(phase, wanted, report).is_none());
        scene.published && scene.unchanged >= LEAST && followed
    };
    match phase {
        Phase::Refused(_) | Phase::Idle => None,
        Phase::Asked => Some(Step::Begin),
        Phase::Spreading => done().then_some(Step::Switch),
        Phase::Renewing => done().then_some(Step::Finish),
    }
}

impl Keys {
    pub fn phase(&self) -> Phase {
        match &self.rotation {
            _ if self.root_key_pem.is_none() => Phase::Refused(
                "the root's key is not ours: whoever makes the issuer rotates it; with both roots in ca.crt first",
            ),
            Rotation::None => Phase::Idle,
            Rotation::Asked => Phase::Asked,
            Rotation::Spreading(_) => Phase::Spreading,
            Rotation::Renewing { .. } => Phase::Renewing,
        }
    }

    /// The keys after a step. `None` where it is not the one that comes next.
    pub fn after(&self, step: Step, trust_domain: &str, now: SystemTime) -> anyhow::Result<Option<Keys>> {
        let next = match (step, self.rotation.clone()) {
            (Step::Begin, Rotation::Asked) => {
                let (key_pem, pem) = keys::root(trust_domain, now)?;
                Keys {
                    anchors_pem: format!("{}{pem}", lines(&self.anchors_pem)),
                    rotation: Rotation::Spreading(Root { key_pem, pem }),
                    ..self.clone()
                }
            }
            (Step::Switch, Rotation::Spreading(root)) => {
                let old = self.anchors_pem.replace(&root.pem, "");
                let (issuer_key_pem, issuer_pem) = keys::issuer(trust_domain, &root.pem, &root.key_pem, now)?;
                Keys {
                    anchors_pem: format!("{}{old}", lines(&root.pem)),
                    root_key_pem: Some(root.key_pem),
                    issuer_pem,
                    issuer_key_pem,
                    rotation: Rotation::Renewing { root_pem: root.pem },
                }
            }
            (Step::Finish, Rotation::Renewing { root_pem }) => {
                Keys { anchors_pem: root_pem, rotation: Rotation::None, ..self.clone() }
            }
            (Step::Begin | Step::Switch | Step::Finish, _) => return Ok(None),
        };
        Ok(Some(next))
    }
}

/// With an end to its last line.
fn lines(pem: &str) -> String {
    format!("{}\n", pem.trim_end())
}

#[cfg(test)]
mod tests;
