//! A node from outside: started, looked at, ended.

use super::{Node, boot, cgroup, enter, images};
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What the node gets to live in. `cargo xtask cluster` has tried whether this machine allows it.
const NAMESPACES: [&str; 5] = ["--pid", "--mount", "--net", "--uts", "--ipc"];
/// The kernel ends all processes of a namespace at once, but a busy machine takes its time.
const END: Duration = Duration::from_secs(20);

pub fn up(node: &Node, tools: &[PathBuf]) -> Result<()> {
    if let Some(init) = node.init() {
        eprintln!("node {} runs already (process {})", node.name(), init.pid);
        return Ok(());
    }
    if node.is_first() {
        // Of an earlier life that was cut short, a second node may still run.
        end(node)?;
    } else {
        node.first().running()?;
        leave(node)?;
    }
    clean(node)?;
    fs::create_dir_all(node.path("log")).with_context(|| format!("make {}", node.dir().display()))?;
    let mut tools = tools.to_vec();
    if !node.is_first() {
        tools.push(images::export(&node.first(), node.path("images"))?);
    }
    let dirs: Vec<_> = tools.iter().map(|dir| format!("{}\n", dir.display())).collect();
    fs::write(node.path("tools"), dirs.concat()).context("write down where the node's programs are")?;

    let start = Instant::now();
    eprintln!("starting node {}", node.name());
    let log = fs::File::create(node.log("node")).context("create the node's log")?;
    let mut unshare = Command::new("unshare");
    unshare.args(NAMESPACES).args(["--fork", "--"]).arg(env::current_exe().context("find our own program")?);
    unshare.args(["--name", &node.name(), "init"]);
    for dir in &tools {
        unshare.arg("--tools").arg(dir);
    }
    let mut child = unshare
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("start unshare")?;
    let news = BufReader::new(child.stdout.take().context("read what the node says")?);
    for line in news.lines() {
        let line = line.context("read what the node says")?;
        if line == "ready" {
            let took = start.elapsed().as_secs_f64();
            eprintln!(
                "node {} is ready after {took:.1} s; kubeconfig: {}",
                node.name(),
                node.kubeconfig().display()
            );
            return Ok(());
        }
        if let Some(why) = line.strip_prefix("failed: ") {
            end(node)?;
            bail!("{why}");
        }
        eprintln!("  {:4.1} s  {line}", start.elapsed().as_secs_f64());
    }
    end(node)?;
    bail!(
        "the node ended while it started: {}",
        fs::read_to_string(node.log("node")).unwrap_or_default().trim()
    );
}

pub fn down(node: &Node) -> Result<()> {
    if node.init().is_none() && !node.dir().exists() {
        eprintln!("there is no node {}", node.name());
        return Ok(());
    }
    let start = Instant::now();
    end(node)?;
    if !node.is_first() && node.first().init().is_some() {
        leave(node)?;
    }
    clean(node)?;
    eprintln!("node {} is gone ({:.1} s)", node.name(), start.elapsed().as_secs_f64());
    Ok(())
}

/// Kubernetes believes in a node that is gone, and in its Pods, for as long as it is not told.
fn leave(node: &Node) -> Result<()> {
    let (first, host) = (node.first(), node.host());
    // A thread of its own: we go on in the network that we came from.
    let told = thread::scope(|scope| scope.spawn(|| forget(&first, &host)).join());
    told.unwrap_or_else(|_| bail!("the cluster was not told"))
        .with_context(|| format!("remove node {host} from its cluster"))
}

#[tokio::main(flavor = "current_thread")]
async fn forget(first: &Node, host: &str) -> Result<()> {
    enter::network(first)?;
    let client = boot::client(first).await?;
    let pods = Api::<core::Pod>::all(client.clone());
    let here = ListParams::default().fields(&format!("spec.nodeName={host}"));
    for pod in pods.list(&here).await?.items {
        let pods = Api::<core::Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        unless_gone(pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await)?;
    }
    unless_gone(Api::<core::Node>::all(client).delete(host, &DeleteParams::default()).await)
}

fn unless_gone<T>(deleted: kube::Result<T>) -> Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop).map_err(Into::into),
    }
}

/// Its first process takes all others along. What they logged stays, for whoever asks why.
fn end(node: &Node) -> Result<()> {
    if node.is_first() {
        // Without the first, the others are of no use.
        let others: Vec<_> = node.others().map(|other| end(&other)).collect();
        return end_one(node).and(others.into_iter().collect());
    }
    end_one(node)
}

fn end_one(node: &Node) -> Result<()> {
    let Some(init) = node.init() else { return cgroup::remove(node) };
    let pid =
        i32::try_from(init.pid).ok().and_then(Pid::from_raw).context("read the node's process number")?;
    kill_process(pid, Signal::KILL).context("end the node's first process")?;
    let start = Instant::now();
    while init.runs() {
        ensure!(start.elapsed() < END, "process {} of node {} does not end", init.pid, node.name());
        thread::sleep(Duration::from_millis(20));
    }
    cgroup::remove(node)
}

/// Removes what an ended node left.
fn clean(node: &Node) -> Result<()> {
    cgroup::remove(node)?;
    match fs::remove_dir_all(node.dir()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", node.dir().display()))
        }
        _ => Ok(()),
    }
}

pub fn status(node: &Node) -> Result<()> {
    let init = node.running()?;
    let namespace =
        fs::read_link(format!("/proc/{}/ns/pid", init.pid)).context("look at the node's processes")?;
    let (mut processes, mut kib) = (0, 0);
    for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
        let of_node = fs::read_link(entry.path().join("ns/pid")).is_ok_and(|of| of == namespace);
        if of_node {
            processes += 1;
            kib += resident_kib(&entry.path());
        }
    }
    println!(
        "node {}: process {}, {processes} processes, {} MB of memory",
        node.name(),
        init.pid,
        kib / 1024
    );
    println!("files: {}", node.dir().display());
    println!("kubeconfig, for use within `enter`: {}", node.kubeconfig().display());
    Ok(())
}

/// A process's share of memory: what it has for itself, and its part of what it shares.
fn resident_kib(process: &std::path::Path) -> u64 {
    let rollup = fs::read_to_string(process.join("smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
