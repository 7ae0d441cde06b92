//! Routes and their splits: `GET /api/v1/routes?window=&ns=` and its stream.

use crate::{golden::Golden, health::Health};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteList {
    pub at_ms: u64,
    pub window_s: u32,
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// `HTTPRoute` or `GRPCRoute`.
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// `Service bookinfo/reviews:9080`; one per accepted or refused parent.
    pub parents: Vec<Parent>,
    pub rules: Vec<Rule>,
    pub health: Health,
    pub golden: Golden,
}

/// One entry of the status, as it is written to the cluster (Gateway API `RouteParentStatus`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    pub parent: String,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: bool,
    pub reason: String,
    pub message: String,
}

impl Condition {
    /// Whether it tells of something wrong. `PartiallyInvalid` is the one condition that does when it is true.
    pub fn is_bad(&self) -> bool {
        self.status == (self.kind == "PartiallyInvalid")
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// In words: `path under /reviews and header end-user = jason`; alternatives joined by `or`.
    pub matches: String,
    /// In words: `set header x = 1`, `redirect to …`; one each.
    pub filters: Vec<String>,
    /// In words: `request 500 ms`, `retry 2 × on 5xx`.
    pub policies: Vec<String>,
    pub backends: Vec<Backend>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// `bookinfo/reviews-v1:9080`.
    pub name: String,
    pub weight: u32,
    /// Share that the weights ask for, 0 to 1.
    pub wanted: f64,
    /// Share of the requests in the window; `None` when nothing ran.
    pub observed: Option<f64>,
    pub golden: Golden,
    /// Why this backend cannot serve (`Service not found`), where it cannot.
    pub problem: Option<String>,
}
