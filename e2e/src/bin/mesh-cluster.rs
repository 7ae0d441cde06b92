//! `mesh-cluster`: runs one Kubernetes node in namespaces of its own. `cargo xtask cluster` builds what it needs and calls it.

use clap::{Parser, Subcommand};
use mesh_e2e::node::{Node, boot, enter, images, init, life};
use std::{path::PathBuf, process::ExitCode};

#[derive(Debug, Parser)]
#[command(name = "mesh-cluster", about = "Runs a Kubernetes node in namespaces of its own")]
struct Arguments {
    /// Which node: each name is a node of its own.
    #[arg(long, default_value = "mesh")]
    name: String,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start the node and wait until Pods can run on it.
    Up {
        /// A folder with programs and images of the node; several are.
        #[arg(long, required = true)]
        tools: Vec<PathBuf>,
    },
    /// End the node and remove all it left.
    Down,
    /// Say whether it runs and what it takes.
    Status,
    /// Bring images onto the node.
    Import { archives: Vec<PathBuf> },
    /// Run a command in the node's network.
    Enter {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// The node's first process.
    #[command(hide = true)]
    Init {
        #[arg(long)]
        tools: Vec<PathBuf>,
    },
    /// The node itself.
    #[command(hide = true)]
    Boot {
        #[arg(long)]
        tools: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Arguments { name, task } = Arguments::parse();
    let node = match Node::named(&name) {
        Ok(node) => node,
        Err(error) => return failed(error),
    };
    let done = match task {
        Task::Up { tools } => life::up(&node, &tools),
        Task::Down => life::down(&node),
        Task::Status => life::status(&node),
        Task::Import { archives } => images::import(&node, &archives),
        Task::Enter { command } => enter::exec(&node, &command),
        Task::Init { tools } => init::run(&node, &tools),
        Task::Boot { tools } => boot::run(&node, tools),
    };
    done.map_or_else(failed, |()| ExitCode::SUCCESS)
}

fn failed(error: anyhow::Error) -> ExitCode {
    eprintln!("mesh-cluster: {error:#}");
    ExitCode::FAILURE
}
