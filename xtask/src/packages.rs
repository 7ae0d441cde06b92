//! Programs that come from Debian: what building and the stories want, installed where we are root, else named.

use crate::shell::{self, exists};
use anyhow::{Result, bail};
use std::{path::Path, process::Command};

/// What the cryptography library, which is C, is built with. The compiler itself is there: this program was linked by it.
pub const BUILD: [(Proof, &str); 2] = [(Proof::Program("cmake"), "cmake"), (Proof::Program("make"), "make")];

/// What the stories in `tests/` drive besides our own programs: a browser, client libraries in other languages, what
/// sets and shows the kernel's rules, and a clock that can be set.
pub const STORIES: [(Proof, &str); 10] = [
    (Proof::Program("chromium"), "chromium"),
    (Proof::Program("chromedriver"), "chromium-driver"),
    (Proof::Program("python3"), "python3"),
    (Proof::PythonModule("ensurepip"), "python3-venv"),
    (Proof::Program("node"), "nodejs"),
    (Proof::Program("npm"), "npm"),
    (Proof::Program("ip"), "iproute2"),
    (Proof::Program("nft"), "nftables"),
    (Proof::Program("iptables-legacy"), "iptables"),
    (Proof::Program("faketime"), "faketime"),
];

/// What a node of `cargo xtask cluster` runs besides what is built from source.
pub const NODE: [(Proof, &str); 7] = [
    (Proof::Program("containerd"), "containerd"),
    (Proof::Program("runc"), "runc"),
    (Proof::File("/usr/lib/cni/bridge"), "containernetworking-plugins"),
    (Proof::Program("iptables"), "iptables"),
    (Proof::Program("nft"), "nftables"),
    (Proof::Program("conntrack"), "conntrack"),
    (Proof::Program("ip"), "iproute2"),
];

/// What the stories in `e2e/` drive besides that: a browser, and somebody's Prometheus.
pub const NODE_STORIES: [(Proof, &str); 3] = [
    (Proof::Program("chromium"), "chromium"),
    (Proof::Program("chromedriver"), "chromium-driver"),
    (Proof::Program("prometheus"), "prometheus"),
];

/// How a package shows that it is there, wherever it came from.
#[derive(Debug)]
pub enum Proof {
    Program(&'static str),
    PythonModule(&'static str),
    File(&'static str),
}

impl Proof {
    fn holds(&self) -> bool {
        match self {
            Proof::Program(name) => exists(name),
            Proof::File(path) => Path::new(path).exists(),
            Proof::PythonModule(name) => {
                let import = Command::new("python3").args(["-c", &format!("import {name}")]).output();
                import.is_ok_and(|import| import.status.success())
            }
        }
    }
}

/// Installs what is missing; `purpose` stands in front of "want" and the packages.
pub fn install(purpose: &str, packages: &[(Proof, &str)]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|(proof, _)| !proof.holds()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !is_root() || !exists("apt-get") {
        bail!(
            "{purpose} want {names}: run `sudo apt-get install {names}`, or install them as your system does"
        );
    }
    eprintln!("installing {names}, which {purpose} want");
    // A list that cannot be refreshed may still do.
    let _ = shell::run(Command::new("apt-get").args(["update", "--quiet"]));
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(&missing);
    shell::run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

fn is_root() -> bool {
    let id = shell::output(Command::new("id").arg("-u"));
    id.is_ok_and(|id| id.trim() == "0")
}
