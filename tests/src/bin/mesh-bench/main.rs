//! `mesh-bench`: what the operator costs at scale. `cargo xtask bench operator` builds what it needs and calls it.
//!
//! Each row starts a release operator against an API server that serves objects from memory, so that all it does on a cluster is
//! done here: lists in pages, watches, pruning, tables, TLS, streams. Subscribers are bare gRPC streams.

mod api_server;
mod objects;
mod operator;
mod rows;
mod subscriber;

use anyhow::{Context, Result};
use clap::Parser;
use std::{path::PathBuf, time::Duration};

#[derive(Debug, Parser)]
#[command(name = "mesh-bench", about = "Measures a release operator at scale")]
pub struct Arguments {
    /// How long each row changes the world.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Only these rows.
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Vec<rows::Row>,
    /// The operator to measure.
    #[arg(long)]
    operator: PathBuf,
    /// What the operator logs, to standard error.
    #[arg(long, default_value = "warn")]
    log: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("starting the runtime")?.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    let rows = match arguments.rows.is_empty() {
        true => rows::Row::ALL.to_vec(),
        false => arguments.rows.clone(),
    };
    println!("| row | measured | goal |\n|---|---|---|");
    for row in rows {
        let about = format!("measuring {row:?}");
        row.measure(&arguments, Duration::from_secs(arguments.seconds)).await.context(about)?;
    }
    Ok(())
}
