//! The node's first process: buries orphans. When it ends, the kernel ends everything in its namespace with it, so a node is ended by
//! one SIGKILL, and nothing of it can be left behind.

use super::{Node, Process};
use anyhow::{Context, Result, bail};
use rustix::process::{WaitOptions, setsid, wait};
use std::{env, fs, path::PathBuf, process::Command};

pub fn run(node: &Node, tools: &[PathBuf]) -> Result<()> {
    // Ctrl-C in the terminal that started us is not meant for us.
    let _ = setsid();
    // Before `boot` mounts a `/proc` that shows this namespace only: others need our number in theirs.
    let Process { pid, started } = Process::own()?;
    fs::write(node.path("init"), format!("{pid} {started}\n")).context("write down our process number")?;
    let mut boot = Command::new(env::current_exe().context("find our own program")?);
    boot.args(["--name", &node.name(), "boot"]);
    for dir in tools {
        boot.arg("--tools").arg(dir);
    }
    let boot = boot.spawn().context("start the node")?;
    loop {
        let ended = wait(WaitOptions::empty()).context("wait for a process to end")?;
        let Some((pid, status)) = ended else { continue };
        if pid.as_raw_nonzero().get() as u32 == boot.id() {
            // The reason stands where `boot` wrote it.
            bail!("the node ended: {status:?}");
        }
    }
}
