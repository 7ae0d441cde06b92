//! What `mesh check` prints and the dashboard warns of: `GET /api/v1/checks`.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckList {
    pub checks: Vec<Check>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Pass,
    Warn,
    Fail,
}

/// One check: a stable name, what was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// `configuration`, `identity`, `data plane`, `routes`, `telemetry`.
    pub group: String,
    /// What is well when the check passes: `every manifest is valid`.
    pub name: String,
    pub outcome: Outcome,
    /// What is wrong, on which object, why; a line each. Empty when it passes.
    pub findings: Vec<String>,
    /// What to do. Empty when it passes.
    pub remedy: String,
}
