//! A Kubernetes node: where its files are and whether it runs. Its parts:
//!
//! ```text
//! life      up, down, status: seen from outside
//! init      its first process: buries orphans, and takes everything with it when it ends
//! boot      its second: namespaces made habitable, then each component in its order, and again when one dies
//! settings  what each component is told; pki: whom it trusts
//! enter     into its namespaces; images: onto it; cgroup: where its Pods are counted
//! ```
//!
//! A node lives in process, mount, network, host name and IPC namespaces of its own. Nothing it does is seen outside of them but its
//! folder in the cache and its control groups, and `down` removes both.

pub mod boot;
pub mod cgroup;
pub mod enter;
pub mod images;
pub mod init;
pub mod life;
pub mod pki;
pub mod settings;

use anyhow::{Context, Result, bail, ensure};
use std::{
    env, fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

/// What the node calls itself.
pub const NODE: &str = "node0";
/// Its addresses. Every node has the same: their networks never meet.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 2);
pub const ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x10, 0, 0, 0, 0, 2);

/// Nodes have addresses of both families, but where the kernel does not speak IPv6.
fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

#[derive(Clone, Debug)]
pub struct Node {
    name: String,
    dir: PathBuf,
}

impl Node {
    pub fn named(name: &str) -> Result<Node> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(
            !name.is_empty() && name.len() <= 32 && name.chars().all(fits),
            "a node's name is 1 to 32 of a to z, 0 to 9 and -, not {name:?}"
        );
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let Some(cache) = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home) else {
            bail!("a node's files lie in the cache folder, but neither XDG_CACHE_HOME nor HOME is set");
        };
        Ok(Node { name: name.to_owned(), dir: cache.join("mesh/cluster").join(name) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything of this node.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// For administrators.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig/admin")
    }

    pub fn log(&self, component: &str) -> PathBuf {
        self.path("log").join(format!("{component}.log"))
    }

    /// Its first process, as seen from here, where it runs.
    pub fn init(&self) -> Option<Process> {
        let text = fs::read_to_string(self.path("init")).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let process = Process { pid: pid.parse().ok()?, started: started.parse().ok()? };
        process.runs().then_some(process)
    }

    /// The same for callers that cannot go on without.
    pub fn running(&self) -> Result<Process> {
        self.init().with_context(|| {
            let named = if self.name == "mesh" { String::new() } else { format!(" --name {}", self.name) };
            format!("node {} does not run: `cargo xtask cluster{named} up`", self.name)
        })
    }

    /// The folders with the node's programs, as it was started.
    pub fn tools(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string(self.path("tools")).unwrap_or_default();
        text.lines().map(PathBuf::from).collect()
    }
}

impl Node {
    /// Ends a component and keeps it away until the answer is dropped; a moment later it is gone, or back.
    pub fn hold(&self, component: &str) -> Result<Held> {
        self.running()?;
        let mark = self.path("hold").join(component);
        fs::write(&mark, "").with_context(|| format!("mark {component} as held"))?;
        Ok(Held { mark })
    }

    fn is_held(&self, component: &str) -> bool {
        self.path("hold").join(component).exists()
    }
}

/// A component of the node that is away.
#[derive(Debug)]
pub struct Held {
    mark: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Gone with the node's folder when the node was ended meanwhile.
        let _ = fs::remove_file(&self.mark);
    }
}

/// A process that is not mistaken for a later one of the same number.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pub pid: u32,
    /// Since the machine's start, in the kernel's ticks.
    started: u64,
}

impl Process {
    /// This process, by its number in the namespace that `/proc` shows.
    fn own() -> Result<Process> {
        let pid = fs::read_link("/proc/self").context("read /proc/self")?;
        let pid = pid.to_string_lossy().parse().context("read our own process number")?;
        let started = started(pid).context("read our own start time")?;
        Ok(Process { pid, started })
    }

    pub fn runs(&self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

/// When a process was started; none when there is none, or only its remains.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the fields after it are numbers but for the state.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
