//! `cargo xtask test`: every check that needs no cluster, the quick ones first. The same on a laptop and in CI.

use crate::{
    dashboard, docs,
    shell::{self, cargo, exists},
    tidy,
};
use anyhow::{Context, Result, bail};
use std::process::Command;

/// What the stories in `tests/` drive besides our own programs, by the Debian package that brings it: a browser, and client
/// libraries in other languages; and what shows the kernel's rules.
const PACKAGES: [(Proof, &str); 9] = [
    (Proof::Program("chromium"), "chromium"),
    (Proof::Program("chromedriver"), "chromium-driver"),
    (Proof::Program("python3"), "python3"),
    (Proof::PythonModule("ensurepip"), "python3-venv"),
    (Proof::Program("node"), "nodejs"),
    (Proof::Program("npm"), "npm"),
    (Proof::Program("ip"), "iproute2"),
    (Proof::Program("nft"), "nftables"),
    (Proof::Program("iptables-legacy"), "iptables"),
];

/// How it shows that a package is there, wherever it came from.
enum Proof {
    Program(&'static str),
    PythonModule(&'static str),
}

impl Proof {
    fn holds(&self) -> bool {
        match self {
            Proof::Program(name) => exists(name),
            Proof::PythonModule(name) => {
                let import = Command::new("python3").args(["-c", &format!("import {name}")]).output();
                import.is_ok_and(|import| import.status.success())
            }
        }
    }
}

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
    shell::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn tests() -> Result<()> {
    install()?;
    dashboard::build(dashboard::Args::default())?;
    // All at once and with the tests' own dependencies: another selection of crates would have other features, and every
    // dependency would be built twice.
    shell::run(&mut cargo(&["build", "--workspace", "--all-targets"]))?;
    docs::run(docs::Options { check: true })?;
    shell::run(&mut cargo(&["test", "--workspace", "--no-fail-fast"]))
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
        PACKAGES.iter().filter(|(proof, _)| !proof.holds()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !is_root() {
        bail!("the stories want {packages}: run `sudo apt-get install {packages}`");
    }
    eprintln!("installing {packages} for the stories");
    let mut update = Command::new("apt-get");
    // A list that cannot be refreshed may still do.
    let _ = shell::run(update.args(["update", "--quiet"]));
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(&missing);
    shell::run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

fn is_root() -> bool {
    let id = shell::output(Command::new("id").arg("-u"));
    id.is_ok_and(|id| id.trim() == "0")
}
