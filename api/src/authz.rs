//! Who may call what, and why: `GET /api/v1/authz?to=ns/workload[&from=ns/workload]`.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthzList {
    pub rows: Vec<AuthzRow>,
}

/// The verdict for one client on one port of one workload, and the policy behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthzRow {
    /// `ns/name` of the workload that is called.
    pub server: String,
    pub port: u16,
    /// `HTTPRoute ns/name`, where the policy is about one route; else empty.
    pub route: String,
    /// `ns/service-account`, `anyone in the mesh`, `anyone`, or a network.
    pub client: String,
    pub verdict: Verdict,
    /// `AuthorizationPolicy bookinfo/ratings-viewer`, or `default mesh-only`.
    pub policy: String,
    /// One sentence: which rule matched, or which none did.
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allowed,
    Denied,
    /// Allowed, but only because the policy is in audit mode.
    Audited,
}
