//! `cargo xtask bench`: builds as released what is to be measured, and hands over to who measures.

use crate::shell::{self, binaries, cargo};
use anyhow::{Context, Result};
use clap::Subcommand;
use std::{path::PathBuf, process::Command};

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// The operator with many Services, Pods and subscribers (`mesh-bench`, in `tests/`).
    Operator(Operator),
}

#[derive(Debug, clap::Args)]
struct Operator {
    /// How long each row changes the world, at most 60.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    seconds: u64,
    /// Only these rows: idle, spread, shared, hot, hot-shared, large.
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    rows: Vec<String>,
    /// Measure this operator instead of building one.
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,
}

pub fn run(options: Options) -> Result<()> {
    let Subject::Operator(options) = options.subject;
    let mut build = cargo(&["build", "--release", "--package", "mesh-tests", "--bin", "mesh-bench"]);
    if options.operator.is_none() {
        build.args(["--package", "mesh-operator", "--bin", "mesh-operator"]);
    }
    shell::run(&mut build)?;
    // target/debug/xtask is where we are.
    let release = binaries()?.parent().context("find cargo's target folder")?.join("release");
    let mut bench = Command::new(release.join("mesh-bench"));
    bench.arg("--seconds").arg(options.seconds.to_string());
    bench.arg("--operator").arg(options.operator.unwrap_or_else(|| release.join("mesh-operator")));
    if !options.rows.is_empty() {
        bench.arg("--rows").arg(options.rows.join(","));
    }
    shell::run(&mut bench)
}
