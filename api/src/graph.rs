//! Who calls whom: `GET /api/v1/graph?ns=&window=` and its stream.
//! Topology (what is there and where it is drawn) and metrics (how it does) travel apart: the first changes rarely.

use crate::{
    golden::{Golden, Tcp, Window},
    health::Health,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    pub topology: Topology,
    pub metrics: Metrics,
}

/// Nodes, edges and their places. `version` changes when anything in here does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    pub version: u64,
    pub width: f64,
    pub height: f64,
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
    /// Namespace boxes around the nodes.
    pub groups: Vec<Group>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// Pods of one workload (`reviews-v1`); drawn as a card.
    Workload,
    /// A Service whose traffic splits over several workloads; drawn as a pill.
    Service,
    /// Not in the mesh: an unmeshed Pod, or an address outside.
    External,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// `w:ns/name`, `s:ns/name` or `x:name`; stable across restarts, used in URLs.
    pub id: String,
    pub kind: NodeKind,
    pub namespace: String,
    /// What is written on the card: the app (`reviews`) where it is known, else the workload's name.
    pub label: String,
    /// The workload's or Service's own name (`reviews-v1`).
    pub name: String,
    pub version: Option<String>,
    pub meshed: bool,
    /// Top left corner and size, in the topology's coordinates.
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// `{from}>{to}`.
    pub id: String,
    pub from: String,
    pub to: String,
    /// Cubic Bézier: start, then control, control, end for each segment; from left to right unless `back`.
    pub points: Vec<(f64, f64)>,
    /// Points against the reading direction (part of a cycle).
    pub back: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub namespace: String,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// The figures of one moment; rows are index-aligned with the topology of the same `version`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub version: u64,
    /// Unix time of the newest second that is counted.
    pub at_ms: u64,
    pub window_s: u32,
    pub nodes: Vec<NodeMetrics>,
    pub edges: Vec<EdgeMetrics>,
}

/// One node's figures. For a workload: what it received, or, where it only sends, what it sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeMetrics {
    pub health: Health,
    /// Why, in a sentence with counts and the limit; empty when healthy.
    pub reason: String,
    pub golden: Golden,
    /// Requests per second over the window in 30 equal steps, oldest first.
    pub spark: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Http,
    Grpc,
    Tcp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeMetrics {
    pub health: Health,
    pub reason: String,
    pub protocol: Protocol,
    pub golden: Golden,
    pub tcp: Option<Tcp>,
    /// Share of requests (or connections) over mutual TLS, 0 to 1; `None` when nothing ran.
    pub mtls: Option<f64>,
    /// Of a Service's edges to its backends: the share of requests that took this one.
    pub observed: Option<f64>,
    /// … and the share that its route asks for.
    pub wanted: Option<f64>,
    /// Requests or connections that policy refused in the window.
    pub denied: u64,
}

/// What a graph request may ask; every field has a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// Namespaces to show; empty means all.
    #[serde(default)]
    pub ns: Vec<String>,
    #[serde(default = "default_window")]
    pub window: Window,
}

fn default_window() -> Window {
    Window::Min1
}
