//! `mesh stat`: the golden metrics of each workload.

use super::{print_json, print_table};
use crate::{
    api::Client,
    arguments::{Output, StatOptions},
    place,
    table::{Table, dash, millis, percent, rate},
};
use anyhow::ensure;
use mesh_api::workload::WorkloadList;

pub async fn run(api: &Client, StatOptions { workload, common }: StatOptions) -> anyhow::Result<()> {
    let workload = workload.map(|name| place::full("workload", &name, common.namespace.as_deref(), api));
    let workload = workload.transpose()?;
    let (namespace, name) = match workload.as_deref().and_then(|full| full.split_once('/')) {
        Some((namespace, name)) => (Some(namespace), Some(name)),
        None => (common.namespace.as_deref(), None),
    };
    let query = [("ns", namespace), ("window", Some(common.window.as_str()))];
    let mut list: WorkloadList = api.get("/api/v1/workloads", &query).await?;
    if let Some(name) = name {
        list.workloads.retain(|row| row.name == name);
        ensure!(
            !list.workloads.is_empty(),
            "workload {}: not found (`mesh stat` lists them all)",
            workload.unwrap_or_default()
        );
    }
    if common.output == Output::Json {
        return print_json(&list);
    }
    let nothing = match namespace {
        Some(namespace) => format!("no workloads in namespace {namespace} that you may see"),
        None => "no workloads: the operator has read no Pods".to_owned(),
    };
    print_table(&table(&list), &nothing);
    Ok(())
}

fn table(list: &WorkloadList) -> Table {
    let mut table = Table::new(&[
        "NAMESPACE",
        "NAME",
        "MESHED",
        "HEALTH",
        "SUCCESS",
        "RPS",
        "LATENCY_P50",
        "LATENCY_P95",
        "LATENCY_P99",
        "TCP_CONN",
    ]);
    for row in &list.workloads {
        let golden = &row.golden;
        table.row(vec![
            row.namespace.clone(),
            row.name.clone(),
            format!("{}/{}", row.meshed_pods, row.pods),
            row.health.word().into(),
            percent(golden.success),
            rate(golden.rate_per_s),
            millis(golden.p50_ms),
            millis(golden.p95_ms),
            millis(golden.p99_ms),
            row.tcp.as_ref().map_or_else(dash, |tcp| tcp.open_connections.to_string()),
        ]);
    }
    table
}
