//! `mesh edges`: who calls whom, and whether it is encrypted. `mesh demo` prints the same table.

use super::{print_json, print_table};
use crate::{
    api::Client,
    arguments::{Output, WindowOptions},
    table::{Table, dash, millis, percent, rate},
};
use mesh_api::graph::{Edge, EdgeMetrics, Graph, Node};
use std::collections::HashMap;

pub async fn run(api: &Client, options: WindowOptions) -> anyhow::Result<()> {
    let query = [("ns", options.namespace.as_deref()), ("window", Some(options.window.as_str()))];
    let graph: Graph = api.get("/api/v1/graph", &query).await?;
    if options.output == Output::Json {
        return print_json(&graph);
    }
    print_table(&table(&graph), "no edges: no traffic was seen yet");
    Ok(())
}

/// Edges with their ends and figures. Metrics of another topology than the graph's own are never mixed in.
pub fn rows(graph: &Graph) -> Vec<(&Node, &Node, &EdgeMetrics)> {
    let nodes: HashMap<&str, &Node> =
        graph.topology.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    if graph.topology.version != graph.metrics.version {
        return vec![];
    }
    let edges = graph.topology.edges.iter().zip(&graph.metrics.edges);
    edges
        .filter_map(|(Edge { from, to, .. }, metrics)| {
            Some((*nodes.get(from.as_str())?, *nodes.get(to.as_str())?, metrics))
        })
        .collect()
}

pub fn table(graph: &Graph) -> Table {
    let mut table = Table::new(&[
        "SRC",
        "DST",
        "SRC_NS",
        "DST_NS",
        "SECURED",
        "SUCCESS",
        "RPS",
        "LATENCY_P50",
        "LATENCY_P99",
        "DENIED",
    ]);
    for (from, to, metrics) in rows(graph) {
        table.row(vec![
            name(from),
            name(to),
            from.namespace.clone(),
            to.namespace.clone(),
            secured(metrics.mtls),
            percent(metrics.golden.success),
            rate(metrics.golden.rate_per_s),
            millis(metrics.golden.p50_ms),
            millis(metrics.golden.p99_ms),
            metrics.denied.to_string(),
        ]);
    }
    table
}

/// A Service is told from a workload of the same name.
fn name(node: &Node) -> String {
    match node.kind {
        mesh_api::graph::NodeKind::Workload | mesh_api::graph::NodeKind::External => node.name.clone(),
        mesh_api::graph::NodeKind::Service => format!("service/{}", node.name),
    }
}

fn secured(mtls: Option<f64>) -> String {
    match mtls {
        None => dash(),
        Some(share) if share >= 1.0 => "√".to_owned(),
        Some(share) => format!("{:.0}% plaintext", (1.0 - share) * 100.0),
    }
}
