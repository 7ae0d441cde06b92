//! `cargo xtask e2e`: every check that needs a cluster. Starts a node of its own, brings our images onto it, tells the stories of
//! `e2e/it/`, holds the mesh against the Gateway API's conformance suite, and ends it.

use crate::{
    cluster::{self, ImageOptions},
    conformance, dashboard,
    gateway_api::{self, Channel},
    packages,
    shell::{self, cargo},
};
use anyhow::Result;

/// Not the node that somebody plays with.
const NODE: &str = "e2e";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Repeat what can fail by chance as often as a release wants it.
    #[arg(long)]
    long: bool,
    /// Leave the node running afterwards, to look at what a story left: `cargo xtask cluster --name e2e kubectl …`.
    #[arg(long)]
    keep: bool,
    /// Images as released, optimized: for figures.
    #[arg(long)]
    release: bool,
    /// Only the stories whose name contains this.
    filter: Option<String>,
}

pub fn run(options: Options) -> Result<()> {
    cluster::possible()?;
    packages::install("builds", &packages::BUILD)?;
    packages::install("stories on a cluster", &packages::NODE_STORIES)?;
    dashboard::build(dashboard::Args::default())?;
    // As `cargo xtask test` does, so that what one has built the other need not: another selection of crates would have other features.
    shell::run(&mut cargo(&["build", "--workspace", "--all-targets"]))?;
    cluster::up(NODE)?;
    let told = tell(&options);
    if options.keep {
        return told;
    }
    let ended = cluster::down(NODE);
    told.and(ended)
}

fn tell(options: &Options) -> Result<()> {
    cluster::import(NODE, ImageOptions { release: options.release })?;
    let mut test = cargo(&["test", "--workspace", "--test", "cluster", "--"]);
    test.arg("--ignored").args(&options.filter).env("MESH_E2E_NODE", NODE);
    test.env("MESH_E2E_GATEWAY_API", gateway_api::definitions(Channel::Standard)?);
    test.env("MESH_E2E_HELM", cluster::helm()?);
    if options.long {
        test.env("MESH_E2E_LONG", "1");
    }
    shell::run(&mut test)?;
    match options.filter {
        Some(_) => Ok(()),
        // The stories have left a mesh on the node.
        None => conformance::run(conformance::Options::on(NODE)),
    }
}
