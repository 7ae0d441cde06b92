//! `cargo xtask test`: every check that needs no cluster, the quick ones first. The same on a laptop and in CI.

use crate::{
    dashboard, docs, packages,
    shell::{self, cargo, exists},
    tidy,
};
use anyhow::{Context, Result};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only what can be said without running anything: format, rules, lints, licences.
    #[arg(long, conflicts_with = "no_lints")]
    only_lints: bool,
    /// Only what runs: unit tests, stories, reference pages.
    #[arg(long)]
    no_lints: bool,
}

pub fn run(options: Options) -> Result<()> {
    packages::install("builds", &packages::BUILD)?;
    if !options.no_lints {
        lints()?;
    }
    if !options.only_lints {
        tests()?;
    }
    eprintln!("all checks passed");
    Ok(())
}

fn lints() -> Result<()> {
    shell::run(&mut cargo(&["fmt", "--all", "--check"])).context("format with `cargo fmt --all`")?;
    tidy::run()?;
    licences()?;
    shell::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn tests() -> Result<()> {
    packages::install("the stories", &packages::STORIES)?;
    dashboard::build(dashboard::Args::default())?;
    // All at once and with the tests' own dependencies: another selection of crates would have other features, and every
    // dependency would be built twice.
    shell::run(&mut cargo(&["build", "--workspace", "--all-targets"]))?;
    docs::run(docs::Options { check: true })?;
    shell::run(&mut cargo(&["test", "--workspace", "--no-fail-fast"]))
}

/// `cargo deny` holds deny.toml. It is installed where it can be. A person's machine without the registry is told, not failed; CI,
/// which sets `CI`, does not say that all checks passed when one was left out.
fn licences() -> Result<()> {
    if !exists("cargo-deny") {
        eprintln!("installing cargo-deny for licences and bans (some minutes, once)");
        // Unoptimized: it builds in half the time and still runs for a second only.
        let installed = shell::run(&mut cargo(&["install", "--quiet", "--locked", "--debug", "cargo-deny"]));
        if std::env::var_os("CI").is_some() {
            installed.context("licences and bans cannot be checked without cargo-deny")?;
        } else if let Err(e) = installed {
            eprintln!("skipped: licences and bans, for want of cargo-deny: {e:#}");
            return Ok(());
        }
    }
    shell::run(&mut cargo(&[
        "deny",
        "--workspace",
        "--log-level",
        "error",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))
}
