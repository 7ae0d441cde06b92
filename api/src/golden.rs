//! The golden metrics of a workload, an edge or a route over one window.

use serde::{Deserialize, Serialize};

/// How far back a figure looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Window {
    #[serde(rename = "10s")]
    Sec10,
    #[serde(rename = "1m")]
    Min1,
    #[serde(rename = "5m")]
    Min5,
    #[serde(rename = "15m")]
    Min15,
    #[serde(rename = "1h")]
    Hour1,
}

impl Window {
    pub const ALL: [Window; 5] = [Window::Sec10, Window::Min1, Window::Min5, Window::Min15, Window::Hour1];

    pub const fn seconds(self) -> u32 {
        match self {
            Window::Sec10 => 10,
            Window::Min1 => 60,
            Window::Min5 => 300,
            Window::Min15 => 900,
            Window::Hour1 => 3_600,
        }
    }

    /// The text in URLs and flags: `10s`, `1m`, `5m`, `15m`, `1h`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Window::Sec10 => "10s",
            Window::Min1 => "1m",
            Window::Min5 => "5m",
            Window::Min15 => "15m",
            Window::Hour1 => "1h",
        }
    }

    pub fn parse(text: &str) -> Option<Window> {
        Window::ALL.into_iter().find(|w| w.as_str() == text)
    }
}

/// Requests, success and latency. What was not measured is `None`, never zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// Responses that ended within the window.
    pub requests: u64,
    pub rate_per_s: f64,
    /// Share of responses that were no failure, 0 to 1. A failure is HTTP 5xx, a failing gRPC status, or no response.
    pub success: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Failures by HTTP status, `grpc-<code>`, or the mesh's own error; most frequent first, at most 5.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
}

/// One kind of failure and how often it was seen in the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// `503`, `grpc-14`, `connect-error`.
    pub cause: String,
    pub count: u64,
    /// Whether a proxy made the response up, rather than the application.
    pub by_mesh: bool,
}

/// Bytes and connections of traffic that is not HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tcp {
    pub open_connections: u64,
    pub read_bytes_per_s: f64,
    pub write_bytes_per_s: f64,
}
