//! The project's own tasks: `cargo xtask demo`, `cargo xtask test` and what they are made of.

mod bench;
mod check;
mod cluster;
mod conformance;
mod dashboard;
mod demo;
mod docs;
mod e2e;
mod gateway_api;
mod go;
mod image;
mod images;
mod names;
mod packages;
mod release;
mod shell;
mod tidy;
mod wasm_target;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and checks Mesh")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build everything, then run the whole mesh on this machine; arguments go to `mesh demo`.
    #[command(disable_help_flag = true)]
    Demo(demo::Options),
    /// Every check that needs no cluster.
    Test(check::Options),
    /// A Kubernetes node of our own to play with: build it, start it, ask it, end it.
    Cluster(cluster::Options),
    /// Build the images of the mesh into a folder, for a registry or for nodes.
    Images(images::Options),
    /// Make the folder of files that a release is: program, chart, images, krew's manifest, checksums.
    Release(release::Options),
    /// Every check that needs a cluster.
    E2e(e2e::Options),
    /// The Gateway API's own suite for meshes, on a node that runs.
    Conformance(conformance::Options),
    /// What the operator costs at scale, as a table.
    Bench(bench::Options),
    /// Build the dashboard into dashboard/dist/.
    Dashboard(dashboard::Args),
    /// Write docs/reference/ and the chart's values from the code.
    Docs(docs::Options),
    /// The project's own rules: who may depend on whom, and what no file may hold.
    Tidy,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Demo(options) => demo::run(options),
        Task::Test(options) => check::run(options),
        Task::Cluster(options) => cluster::run(options),
        Task::Images(options) => images::run(&options),
        Task::Release(options) => release::run(options),
        Task::E2e(options) => e2e::run(options),
        Task::Conformance(options) => conformance::run(options),
        Task::Bench(options) => bench::run(options),
        Task::Dashboard(args) => dashboard::build(args),
        Task::Docs(options) => docs::run(options),
        Task::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::CommandFactory;

    #[test]
    fn no_two_arguments_of_a_task_are_in_each_others_way() {
        Arguments::command().debug_assert();
    }
}
