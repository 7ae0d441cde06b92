//! Who has which certificate, and how far the change to a new root is: `GET /api/v1/identities?ns=`.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdentityList {
    pub at_ms: u64,
    pub trust_anchor_left_s: u64,
    pub issuer_left_s: u64,
    /// Which trust anchors proxies should have; changes with them.
    pub trust_anchors_hash: u64,
    pub rotation: Rotation,
    /// Meshed Pods, by namespace and name.
    pub pods: Vec<PodIdentity>,
}

/// A change to a new root, or that there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rotation {
    pub phase: Phase,
    /// With `refused`: why, and what to do instead. Else empty.
    pub reason: String,
    /// The Secret with root and issuer, as `namespace/name`; whoever may annotate it may begin. Empty in standalone mode.
    pub secret: String,
    /// Proxies that have followed, and all there are.
    pub followed: u32,
    pub of: u32,
    /// Those that have not.
    pub waiting: Vec<Waiting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not here.
    Refused,
    Idle,
    Asked,
    /// Proxies get the new root beside the old one.
    Spreading,
    /// Proxies get certificates of the new issuer.
    Renewing,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// `namespace/name`
    pub pod: String,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PodIdentity {
    pub namespace: String,
    pub name: String,
    pub workload: String,
    pub identity: Option<String>,
    pub certificate_left_s: Option<u64>,
    /// Who signed its certificate.
    pub issuer: Standing,
    /// Which trust anchors it has.
    pub trust_anchors: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Current,
    /// Those of a step before, or somebody else's.
    Other,
    /// It has not said so.
    Unknown,
}

/// What a Pod's proxy shows to whoever connects: `GET /api/v1/identities/{ns}/{pod}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// The proxy's own first, then what leads to a root.
    pub chain: Vec<Certificate>,
    /// Why peers would not believe it; empty where they do.
    pub problem: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Empty where it has only names.
    pub subject: String,
    pub names: Vec<String>,
    pub issuer: String,
    pub serial: String,
    /// As in RFC 3339.
    pub not_before: String,
    pub not_after: String,
    pub left_s: u64,
    /// Kind of its key.
    pub key: String,
    pub sha256: String,
}
