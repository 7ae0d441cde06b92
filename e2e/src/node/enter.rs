//! Into the node's namespaces: commands for people, and threads of stories.

use super::Node;
use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    env,
    fs::File,
    os::{fd::AsFd, unix::process::CommandExt},
    process::Command,
};

/// Becomes the command, in the node's network, with its `kubectl` and the administrator's kubeconfig.
pub fn exec(node: &Node, command: &[String]) -> Result<()> {
    network(node)?;
    let (program, arguments) = command.split_first().context("name a command to run")?;
    let mut dirs = node.tools();
    dirs.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let path = env::join_paths(dirs).context("put the node's programs on the path")?;
    // `env` looks the program up on the path that it is given.
    let mut enter = Command::new("env");
    enter.arg(program).args(arguments).env("PATH", path).env("KUBECONFIG", node.kubeconfig());
    // Only returns when it failed.
    Err(enter.exec()).with_context(|| format!("run {program}"))
}

/// Moves the calling thread, and what it starts from now on, into the node's network.
pub fn network(node: &Node) -> Result<()> {
    let init = node.running()?;
    let path = format!("/proc/{}/ns/net", init.pid);
    let file = File::open(&path).with_context(|| format!("open {path}"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .context("enter the node's network (are you root?)")
}
