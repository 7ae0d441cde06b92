//! Live data by server-sent events. Every resource of the API is also served at `…/stream`: `hello` first, then an event named
//! after the resource (`overview`, `workloads`, `workload`, `routes`, `traces`, `checks`) once a second when it changed.
//! The graph sends `topology` when it changes and `metrics` every second.

use serde::{Deserialize, Serialize};

/// First event of every stream. A page whose own build differs asks to be reloaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Hash of the dashboard that this operator serves.
    pub build: String,
    pub version: String,
}

/// Body of every refusal by the API, with the HTTP status that fits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiError {
    /// What failed, on which parameter or object, why, and what to do.
    pub error: String,
}
