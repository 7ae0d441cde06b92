//! `cargo xtask test`: every check that needs no cluster, the quick ones first. The same on a laptop and in CI.

use crate::{
    demo, docs,
    shell::{self, cargo, exists},
    tidy,
};
use anyhow::{Context, Result, bail};
use std::process::Command;

/// What the stories in `tests/` drive besides our own programs: a browser, and client libraries in other languages.
const PACKAGES: [(&str, &str); 2] = [("chromium", "chromium"), ("chromedriver", "chromium-driver")];

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
    let native =
        ["clippy", "--workspace", "--exclude", "mesh-dashboard", "--all-targets", "--", "-D", "warnings"];
    shell::run(&mut cargo(&native))
}

fn tests() -> Result<()> {
    install()?;
    demo::build()?;
    docs::run(docs::Options { check: true })?;
    shell::run(&mut cargo(&["test", "--workspace", "--exclude", "mesh-dashboard", "--no-fail-fast"]))
}

/// `cargo deny` holds deny.toml. It is installed where it can be; a machine without the registry is told, not failed.
fn licences() -> Result<()> {
    if !exists("cargo-deny") {
        eprintln!("installing cargo-deny for licences and bans (some minutes, once)");
        // Unoptimized: it builds in half the time and still runs for a second only.
        if let Err(e) = shell::run(&mut cargo(&["install", "--quiet", "--locked", "--debug", "cargo-deny"])) {
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

fn install() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.iter().filter(|(program, _)| !exists(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !is_root() {
        bail!("the browser tests want {packages}: run `sudo apt-get install {packages}`");
    }
    eprintln!("installing {packages} for the browser tests");
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--yes", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive");
    shell::run(&mut apt)
}

fn is_root() -> bool {
    let id = shell::output(Command::new("id").arg("-u"));
    id.is_ok_and(|id| id.trim() == "0")
}
