//! The node itself, inside its namespaces: makes them habitable, starts each component when what it needs is there, and starts one
//! again that dies. Tells `up` how far it is, a line at a time on standard output, which it closes when the node is ready.

use super::{Node, Process, cgroup, has_ipv6, images, pki, settings};
use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::{apps::v1::Deployment, core::v1 as core};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::ApiResource,
    runtime::wait::await_condition,
};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change},
    system::sethostname,
};
use std::{
    env,
    ffi::OsString,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{process::Command, sync::mpsc, time};

/// Two cores that compile at the same time still make it.
const READY: Duration = Duration::from_secs(120);
/// Between a component's death and its next life.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is looked whether a story wants a component away.
const LOOK: Duration = Duration::from_millis(100);

/// Settings of the whole machine that a kubelet insists on. It finds these values in files of ours that lie over the kernel's, and
/// leaves the machine alone.
const KERNEL: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

#[tokio::main(flavor = "current_thread")]
pub async fn run(node: &Node, tools: Vec<PathBuf>) -> Result<()> {
    let outcome = time::timeout(READY, start(node, &tools)).await;
    let mut components = match outcome {
        Ok(Ok(components)) => components,
        Ok(Err(error)) => {
            tell(&format!("failed: {error:#}"))?;
            return Err(error);
        }
        Err(_) => {
            let logs = node.path("log");
            let error = format!("the node was not ready within {READY:?}: see {}", logs.display());
            tell(&format!("failed: {error}"))?;
            bail!(error);
        }
    };
    tell("ready")?;
    // Whoever waits for the end of our output goes on.
    let nowhere = fs::OpenOptions::new().write(true).open("/dev/null").context("open /dev/null")?;
    rustix::stdio::dup2_stdout(nowhere).context("close standard output")?;
    loop {
        let death = components.next_death().await;
        eprintln!("{death}");
    }
}

/// One line for `up`. When nobody reads it any more, `up` was interrupted, and the node has no reason to live.
fn tell(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("tell how far the node is")
}

async fn start(node: &Node, tools: &[PathBuf]) -> Result<Components> {
    if node.is_first() {
        network(node).await?;
    } else {
        // As long as `/proc` shows it.
        let first = node.first().running()?;
        wire(node, first).await?;
    }
    mounts(node)?;
    sethostname(node.host().as_bytes()).context("set the host's name")?;
    cgroup::make(node)?;
    if node.is_first() {
        pki::write(node)?;
    }
    settings::write(node)?;
    let mut components = Components::new(node, tools)?;

    components.start("containerd", settings::containerd(node));
    if node.is_first() {
        components.start("etcd", settings::etcd(node));
        components.start("kube-apiserver", settings::apiserver(node));
    }
    components.unless_one_dies(images::import_all(node, tools)).await?;
    tell("images of the node imported")?;
    let client = client(node).await?;
    components.unless_one_dies(api_ready(&client)).await?;
    tell("API server ready")?;
    if node.is_first() {
        components.start("kube-controller-manager", settings::controller_manager(node));
        components.start("kube-scheduler", settings::scheduler(node));
        components.unless_one_dies(apply(&client, settings::COREDNS)).await?;
    }
    components.start("kubelet", settings::kubelet(node));
    components.start("kube-proxy", settings::proxy(node));
    components.unless_one_dies(node_ready(&client, &node.host())).await?;
    tell("node ready")?;
    components.unless_one_dies(dns_ready(&client)).await?;
    tell("cluster DNS ready")?;
    Ok(components)
}

/// What components write where they please stays in this namespace.
fn mounts(node: &Node) -> Result<()> {
    let empty = None::<&std::ffi::CStr>;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("make the node's mounts its own")?;
    mount("proc", "/proc", "proc", MountFlags::empty(), empty).context("mount /proc")?;
    for dir in ["/run", "/var/log"] {
        mount("tmpfs", dir, "tmpfs", MountFlags::empty(), empty).with_context(|| format!("mount {dir}"))?;
    }
    for dir in ["/run/netns", "/run/lock", "/run/over/upper", "/run/over/work", "/run/kernel"] {
        fs::create_dir_all(dir).with_context(|| format!("make {dir}"))?;
    }
    // Seen as it is, written to as the node likes.
    let layers = c"lowerdir=/var/lib,upperdir=/run/over/upper,workdir=/run/over/work";
    mount("overlay", "/var/lib", "overlay", MountFlags::empty(), layers).context("mount /var/lib")?;
    for (name, value) in KERNEL {
        let (ours, kernels) =
            (Path::new("/run/kernel").join(name.replace('/', ".")), format!("/proc/sys/{name}"));
        fs::write(&ours, format!("{value}\n")).with_context(|| format!("write {}", ours.display()))?;
        // A kernel without it has nothing to protect.
        if Path::new(&kernels).exists() {
            mount_bind(&ours, &kernels).with_context(|| format!("lay a file over {kernels}"))?;
        }
    }
    // Volumes that the kubelet mounts must be seen by what containerd started before.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .with_context(|| format!("share the mounts of node {}", node.name()))
}

/// The first node's network: its one way out is a pair of interfaces with nobody at the other end.
async fn network(node: &Node) -> Result<()> {
    let (v4, v6) = (node.address(), node.address_v6());
    // Nobody else can have these addresses, so nobody need be asked.
    let steps = format!(
        "link set lo up
         link add uplink type veth peer name nowhere
         address add {v4}/24 dev uplink
         address add {v6}/64 dev uplink nodad
         link set uplink up
         link set nowhere up
         route add default dev uplink
         route add ::/0 dev uplink"
    );
    ip(None, &steps).await?;
    forward()
}

/// Another node's: its one way out is the first, which passes on what is for others.
async fn wire(node: &Node, first: Process) -> Result<()> {
    let (host, v4, v6, [pods_v4, pods_v6]) = (node.host(), node.address(), node.address_v6(), node.pods());
    let (first_v4, first_v6) = node.gateway();
    let first = format!("/proc/{}/ns/net", first.pid);
    // The kernel removes that of a node that was just ended a moment later, or we do it now.
    let _ = ip(Some(&first), &format!("link delete {host}")).await;
    let steps = format!(
        "link set lo up
         link add uplink type veth peer name {host} netns {first}
         address add {v4}/24 dev uplink
         address add {v6}/64 dev uplink nodad
         link set uplink up
         route add default via {first_v4}
         route add ::/0 via {first_v6}"
    );
    ip(None, &steps).await?;
    let steps = format!(
        "address add {first_v4}/24 dev {host}
         address add {first_v6}/64 dev {host} nodad
         link set {host} up
         route add {pods_v4} via {v4}
         route add {pods_v6} via {v6}"
    );
    ip(Some(&first), &steps).await?;
    forward()
}

/// Carries out steps of `ip` in this network, or in another; those of IPv6 where the kernel speaks it.
async fn ip(network: Option<&str>, steps: &str) -> Result<()> {
    for step in steps.lines().filter(|step| has_ipv6() || !step.contains("::")) {
        let mut command = match network {
            None => Command::new("ip"),
            Some(network) => {
                let mut nsenter = Command::new("nsenter");
                nsenter.arg(format!("--net={network}")).arg("ip");
                nsenter
            }
        };
        let output = command.args(step.split_whitespace()).output().await.context("run ip")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "ip {}: {}", step.trim(), said.trim());
    }
    Ok(())
}

fn forward() -> Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("let the node forward packets")?;
    if has_ipv6() {
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").context("let the node forward IPv6")?;
    }
    Ok(())
}

pub(super) async fn client(node: &Node) -> Result<Client> {
    let file = Kubeconfig::read_from(node.kubeconfig()).context("read the administrator's kubeconfig")?;
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(file, &options).await;
    let config = config.context("understand the administrator's kubeconfig")?;
    Client::try_from(config).context("make a client for the API server")
}

/// Asks until it says yes; the caller has the deadline.
async fn api_ready(client: &Client) -> Result<()> {
    loop {
        let request = http::Request::get("/readyz").body(vec![]).context("ask for /readyz")?;
        if client.request_text(request).await.is_ok() {
            return Ok(());
        }
        time::sleep(Duration::from_millis(50)).await;
    }
}

async fn node_ready(client: &Client, name: &str) -> Result<()> {
    let is_ready = |node: Option<&core::Node>| {
        let status = node.and_then(|node| node.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    await_condition(Api::<core::Node>::all(client.clone()), name, is_ready)
        .await
        .context("watch the node")?;
    Ok(())
}

async fn dns_ready(client: &Client) -> Result<()> {
    let is_ready = |deployment: Option<&Deployment>| {
        let status = deployment.and_then(|deployment| deployment.status.as_ref());
        status.and_then(|status| status.ready_replicas).unwrap_or_default() > 0
    };
    let deployments = Api::<Deployment>::namespaced(client.clone(), "kube-system");
    await_condition(deployments, "coredns", is_ready).await.context("watch the cluster's DNS")?;
    Ok(())
}

/// Applies every document of a manifest.
async fn apply(client: &Client, manifest: &str) -> Result<()> {
    for document in manifest.split("\n---\n") {
        let object: DynamicObject = serde_saphyr::from_str(document).context("read a manifest")?;
        let kind = object.types.as_ref().context("a manifest names its kind")?;
        let kind = GroupVersionKind::try_from(kind).context("a manifest names its kind")?;
        let resource = ApiResource::from_gvk(&kind);
        let name = object.metadata.name.as_deref().context("a manifest names its object")?;
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let by_us = PatchParams::apply("mesh-cluster").force();
        api.patch(name, &by_us, &Patch::Apply(&object))
            .await
            .with_context(|| format!("apply {} {name}", kind.kind))?;
    }
    Ok(())
}

/// How a component is called.
pub struct Program {
    pub arguments: Vec<String>,
}

/// The node's processes. One that dies is told and started again; while the node starts, a death is its end.
struct Components {
    node: Node,
    path: OsString,
    told: mpsc::Sender<String>,
    deaths: mpsc::Receiver<String>,
}

impl Components {
    fn new(node: &Node, tools: &[PathBuf]) -> Result<Components> {
        let mut dirs = tools.to_vec();
        dirs.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let path = env::join_paths(dirs).context("put the node's programs on the path")?;
        // Full when nobody listens for deaths: then the next one waits for its turn to live again, which is as well.
        let (told, deaths) = mpsc::channel(16);
        Ok(Components { node: node.clone(), path, told, deaths })
    }

    /// Runs it for as long as the node lives.
    fn start(&self, name: &'static str, program: Program) {
        let (node, path, told) = (self.node.clone(), self.path.clone(), self.told.clone());
        tokio::spawn(async move {
            loop {
                let end = match live(&node, name, &program, &path).await {
                    Ok(End::Held) => {
                        while node.is_held(name) {
                            time::sleep(LOOK).await;
                        }
                        continue;
                    }
                    Ok(End::Died(status)) => format!("{name} ended: {status}"),
                    Err(error) => format!("{error:#}"),
                };
                let log = node.log(name);
                let said = format!("{end}; the end of {}:\n{}", log.display(), tail(&log));
                if told.send(said).await.is_err() {
                    return;
                }
                time::sleep(PAUSE).await;
            }
        });
    }

    async fn next_death(&mut self) -> String {
        self.deaths.recv().await.unwrap_or_default()
    }

    async fn unless_one_dies<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            death = self.next_death() => bail!(death),
        }
    }
}

enum End {
    Died(std::process::ExitStatus),
    /// A story wants it away for a while.
    Held,
}

/// One life of a component, from start to end.
async fn live(node: &Node, name: &str, program: &Program, path: &OsString) -> Result<End> {
    let log = fs::OpenOptions::new().create(true).append(true).open(node.log(name));
    let log = log.with_context(|| format!("open the log of {name}"))?;
    let mut command = Command::new(find(name, path)?);
    command
        .args(&program.arguments)
        .env_clear()
        .env("PATH", path)
        .env("HOME", node.dir())
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("share a log")?)
        .stderr(log);
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    let held = async {
        while !node.is_held(name) {
            time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        status = child.wait() => return status.map(End::Died).with_context(|| format!("wait for {name}")),
        () = held => {}
    }
    child.kill().await.with_context(|| format!("end {name}"))?;
    Ok(End::Held)
}

/// `Command` looks a program up on our own path, not on the one that it is given.
fn find(name: &str, path: &OsString) -> Result<PathBuf> {
    let found = env::split_paths(path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is neither among the node's programs nor installed"))
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
