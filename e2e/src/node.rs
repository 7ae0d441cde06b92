//! A Kubernetes node: where its files are and whether it runs. A cluster's first has the API server; a second, named `NAME.1`, joins
//! it by a wire of its own. Their parts:
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

use anyhow::{Context, Result, bail};
use std::{
    env, fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

/// The most nodes that a cluster has.
const NODES: u8 = 2;

/// Nodes have addresses of both families, but where the kernel does not speak IPv6.
fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

#[derive(Clone, Debug)]
pub struct Node {
    cluster: String,
    /// Within its cluster; 0 is the first.
    number: u8,
    /// The cluster's files.
    cluster_dir: PathBuf,
}

impl Node {
    pub fn named(name: &str) -> Result<Node> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let (cluster, number) = name.split_once('.').unwrap_or((name, "0"));
        let number = number.parse().ok().filter(|number| *number < NODES);
        let number = number.filter(|_| (1..=32).contains(&cluster.len()) && cluster.chars().all(fits));
        let Some(number) = number else {
            bail!(
                "a node's name is 1 to 32 of a to z, 0 to 9 and -, and .1 for a cluster's second, not {name:?}"
            );
        };
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let Some(cache) = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home) else {
            bail!("a node's files lie in the cache folder, but neither XDG_CACHE_HOME nor HOME is set");
        };
        Ok(Node {
            cluster: cluster.to_owned(),
            number,
            cluster_dir: cache.join("mesh/cluster").join(cluster),
        })
    }

    /// As `named` reads it.
    pub fn name(&self) -> String {
        if self.is_first() { self.cluster.clone() } else { format!("{}.{}", self.cluster, self.number) }
    }

    pub fn is_first(&self) -> bool {
        self.number == 0
    }

    /// The node of its cluster with the API server.
    pub fn first(&self) -> Node {
        Node { number: 0, ..self.clone() }
    }

    /// The nodes that its cluster may have beside the first.
    pub fn others(&self) -> impl Iterator<Item = Node> {
        (1..NODES).map(|number| Node { number, ..self.clone() })
    }

    /// What Kubernetes calls it.
    pub fn host(&self) -> String {
        format!("node{}", self.number)
    }

    /// Everything of this node. All others' folders lie in the first's.
    pub fn dir(&self) -> PathBuf {
        if self.is_first() { self.cluster_dir.clone() } else { self.cluster_dir.join(self.host()) }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir().join(file)
    }

    /// The node's address. All clusters have the same: their networks never meet.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 10, self.number, 2)
    }

    pub fn address_v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x10, 0x10, self.number.into(), 0, 0, 0, 2)
    }

    /// Where the first node is at the other end of this one's wire.
    pub fn gateway(&self) -> (Ipv4Addr, Ipv6Addr) {
        let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x10, self.number.into(), 0, 0, 0, 1);
        (Ipv4Addr::new(10, 10, self.number, 1), v6)
    }

    /// The addresses of its Pods, of IPv4 and of IPv6.
    pub fn pods(&self) -> [String; 2] {
        [format!("10.244.{}.0/20", 16 * self.number), format!("fd00:10:244:{}::/64", self.number)]
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
            let name = self.name();
            let named = if name == "mesh" { String::new() } else { format!(" --name {name}") };
            format!("node {name} does not run: `cargo xtask cluster{named} up`")
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
