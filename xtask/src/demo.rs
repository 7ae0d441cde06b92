//! `cargo xtask demo`: builds the dashboard and the programs, then becomes `mesh demo`.

use crate::{
    dashboard, packages,
    shell::{self, binaries, cargo, workspace_root},
};
use anyhow::{Context, Result};
use std::{os::unix::process::CommandExt, process::Command};

/// Every program that runs in the demo and in the tests.
pub const PROGRAMS: [&str; 4] = ["mesh-operator", "mesh-proxy", "mesh-demo", "mesh"];

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Passed on to `mesh demo`; `--help` too.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

pub fn run(options: Options) -> Result<()> {
    build()?;
    let manifests = workspace_root().join("demo/manifests");
    let mut mesh = Command::new(binaries()?.join("mesh"));
    mesh.arg("demo");
    if !options.arguments.iter().any(|arg| arg.starts_with("--manifests")) {
        mesh.arg("--manifests").arg(short(&manifests));
    }
    // Only returns when it failed.
    Err(mesh.args(&options.arguments).exec()).context("start mesh demo")
}

/// The dashboard first: the operator embeds it.
pub fn build() -> Result<()> {
    packages::install("builds", &packages::BUILD)?;
    dashboard::build(dashboard::Args::default())?;
    build_programs()
}

/// Always all of them together: another selection has other features, and cargo would build dependencies anew.
pub fn build_programs() -> Result<()> {
    eprintln!(
        "building the operator, the proxy, BookInfo and the command line (some minutes the first time)"
    );
    let mut build = vec!["build"];
    for program in PROGRAMS {
        build.extend(["--package", program]);
    }
    shell::run(&mut cargo(&build))
}

/// As seen from where the user stands, for the paths that are printed to be short.
fn short(path: &std::path::Path) -> &std::path::Path {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path)
}
