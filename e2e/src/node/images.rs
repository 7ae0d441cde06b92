//! Brings images onto the node: archives that containerd unpacks. There is no registry; a Pod whose image is not here does not start.

use super::{Node, settings::CONTAINERD_SOCKET};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};
use tokio::{process::Command, time};

/// How long containerd may take to open its socket.
const SOCKET: Duration = Duration::from_secs(30);

/// Every archive in the node's tool folders; from within the node.
pub async fn import_all(node: &Node, tools: &[PathBuf]) -> Result<()> {
    let start = Instant::now();
    while !Path::new(CONTAINERD_SOCKET).exists() {
        let log = node.log("containerd");
        ensure!(start.elapsed() < SOCKET, "containerd does not open its socket: see {}", log.display());
        time::sleep(Duration::from_millis(20)).await;
    }
    for dir in tools {
        for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
            let path = entry.with_context(|| format!("read {}", dir.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "tar") {
                run(&mut Command::new("ctr"), &path).await?;
            }
        }
    }
    Ok(())
}

/// Archives from anywhere; from outside of the node, by somebody who waits.
#[tokio::main(flavor = "current_thread")]
pub async fn import(node: &Node, archives: &[PathBuf]) -> Result<()> {
    let init = node.running()?;
    for archive in archives {
        let start = Instant::now();
        // Where we stand is not where `nsenter` stands.
        let archive = std::path::absolute(archive).with_context(|| format!("find {}", archive.display()))?;
        let mut ctr = Command::new("nsenter");
        ctr.args(["--target", &init.pid.to_string(), "--mount", "--", "ctr"]);
        run(&mut ctr, &archive).await?;
        let name = archive.file_stem().unwrap_or_default().to_string_lossy();
        eprintln!("  {name}: on node {} ({:.1} s)", node.name(), start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// All that a node has, as an archive in this folder: what another one starts with.
pub fn export(node: &Node, dir: PathBuf) -> Result<PathBuf> {
    let init = node.running()?;
    fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let ctr = |arguments: &[&str]| {
        let mut ctr = process::Command::new("nsenter");
        ctr.args(["--target", &init.pid.to_string(), "--mount", "--", "ctr", "--address", CONTAINERD_SOCKET]);
        let output = ctr.args(["--namespace", "k8s.io", "images"]).args(arguments).output();
        let output = output.context("run ctr")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "images {}: {}", arguments[0], said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let listed = ctr(&["list", "--quiet"])?;
    let archive = dir.join("images.tar").display().to_string();
    // Each stands there by its digest, too.
    let names = listed.lines().filter(|name| !name.starts_with("sha256:"));
    ctr(&["export", &archive].into_iter().chain(names).collect::<Vec<_>>())?;
    Ok(dir)
}

async fn run(ctr: &mut Command, archive: &Path) -> Result<()> {
    ctr.args(["--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", "import"]).arg(archive);
    let output = ctr.output().await.context("run ctr")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "import {}: {}", archive.display(), said.trim());
    Ok(())
}
