//! The same rules by the program `iptables`, for kernels without nf_tables. Chains of ours are emptied and filled anew, and
//! jumped to once, so that a second run changes nothing.

use super::plan::{Family, Match, Rule, Rules};
use anyhow::{Context as _, bail};
use std::{
    io::{ErrorKind, Write as _},
    process::{Command, Output, Stdio},
};

const INBOUND: &str = "MESH_PROXY_INIT_IN";
const OUTBOUND: &str = "MESH_PROXY_INIT_OUT";
/// For the lock that all users of iptables share, in seconds.
const WAIT: &str = "5";

/// Programs that do it, the first that works is taken: where nf_tables is missing, that is the old one.
fn programs(family: Family) -> [&'static str; 3] {
    match family {
        Family::V4 => ["iptables-legacy", "iptables-nft", "iptables"],
        Family::V6 => ["ip6tables-legacy", "ip6tables-nft", "ip6tables"],
    }
}

pub fn apply(family: Family, rules: &Rules) -> anyhow::Result<()> {
    let program = working(family)?;
    let restore = format!("{program}-restore");
    let mut child = Command::new(&restore)
        .args(["--noflush", "--wait", WAIT])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {restore}"))?;
    let mut input = child.stdin.take().context("its standard input")?;
    input.write_all(script(rules).as_bytes()).with_context(|| format!("tell {restore} the rules"))?;
    drop(input);
    succeeded(&restore, &child.wait_with_output()?)?;
    for (hook, chain) in [("PREROUTING", INBOUND), ("OUTPUT", OUTBOUND)] {
        let jump = |what| run(program, &["--wait", WAIT, "-t", "nat", what, hook, "-j", chain]);
        if !jump("-C")?.status.success() {
            succeeded(program, &jump("-A")?)?;
        }
    }
    Ok(())
}

/// A program that is there and can list the table. What the others said is in the error.
fn working(family: Family) -> anyhow::Result<&'static str> {
    let mut tried = Vec::new();
    for program in programs(family) {
        match run(program, &["--wait", WAIT, "-t", "nat", "-S", "OUTPUT"]) {
            Ok(output) if output.status.success() => return Ok(program),
            Ok(output) => tried.push(format!("{program}: {}", said(&output))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tried.push(format!("{program}: {error}")),
        }
    }
    match tried.is_empty() {
        true => bail!("there is no program {}", programs(family).join(" or ")),
        false => bail!("{}", tried.join("; ")),
    }
}

/// Input of `iptables-restore`. A chain that is declared is made, or emptied.
fn script(rules: &Rules) -> String {
    let mut script = format!("*nat\n:{INBOUND} - [0:0]\n:{OUTBOUND} - [0:0]\n");
    for (chain, rules) in [(INBOUND, &rules.prerouting), (OUTBOUND, &rules.output)] {
        for rule in rules {
            let rule = match rule {
                Rule::Redirect(port) => format!("-p tcp -j REDIRECT --to-ports {port}"),
                Rule::Spare(Match::Uid(uid)) => format!("-m owner --uid-owner {uid} -j RETURN"),
                Rule::Spare(Match::Gid(gid)) => format!("-m owner --gid-owner {gid} -j RETURN"),
                Rule::Spare(Match::Loopback) => "-o lo -j RETURN".to_owned(),
                Rule::Spare(Match::To(ports)) => {
                    format!("-p tcp --dport {}:{} -j RETURN", ports.start(), ports.end())
                }
                Rule::Spare(Match::FromNet(net)) => format!("-s {net} -j RETURN"),
                Rule::Spare(Match::ToNet(net)) => format!("-d {net} -j RETURN"),
            };
            script.push_str(&format!("-A {chain} {rule}\n"));
        }
    }
    script.push_str("COMMIT\n");
    script
}

fn run(program: &str, arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(program).args(arguments).stdin(Stdio::null()).output()
}

fn succeeded(program: &str, output: &Output) -> anyhow::Result<()> {
    match output.status.success() {
        true => Ok(()),
        false => bail!("{program}: {}", said(output)),
    }
}

/// The first line of what it complained.
fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    errors.lines().find(|line| !line.trim().is_empty()).unwrap_or("failed without a word").to_owned()
}
