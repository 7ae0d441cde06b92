//! `cargo xtask cluster`: gets and builds everything that a Kubernetes node of our own is made of, then hands over to
//! `mesh-cluster` (in `e2e/`), which runs it.

use crate::{
    dashboard,
    go::Module,
    image::{Image, NOBODY, Packed},
    images, packages,
    shell::{self, binaries, cargo, workspace_root},
};
use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

const KUBERNETES: Module = Module {
    name: "kubernetes",
    title: "Kubernetes 1.34 (5 minutes on two free cores)",
    packages: &[".", "./pause"],
    linked: &[
        ("k8s.io/component-base/version.gitVersion", "v1.34.4"),
        ("k8s.io/component-base/version.gitMajor", "1"),
        ("k8s.io/component-base/version.gitMinor", "34"),
    ],
    test: None,
};

/// The names that the one program goes by.
const PARTS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
];

const COREDNS: Module = Module {
    name: "coredns",
    title: "CoreDNS (2 minutes on two free cores)",
    packages: &["."],
    linked: &[],
    test: None,
};

const HELM: Module = Module {
    name: "helm",
    title: "Helm 4 (3 minutes on two free cores)",
    packages: &["helm.sh/helm/v4/cmd/helm"],
    linked: &[],
    test: None,
};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Which node: each name is a node of its own.
    #[arg(long, default_value = "mesh", global = true)]
    name: String,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build everything a node is made of, and start nothing.
    Build,
    /// Start the node; nothing happens when it runs already.
    Up,
    /// End it and remove all it left.
    Down,
    /// Say whether it runs and what it takes.
    Status,
    /// Build our programs, pack them into images, and bring them onto the node.
    Images(ImageOptions),
    /// kubectl, as administrator.
    #[command(disable_help_flag = true)]
    Kubectl(Rest),
    /// Helm 4, as administrator; built the first time.
    #[command(disable_help_flag = true)]
    Helm(Rest),
    /// Run a command in the node's network, with `kubectl` at hand.
    Enter(Rest),
}

#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ImageOptions {
    /// As released, optimized; else as tests want them, quick to build.
    #[arg(long)]
    pub release: bool,
}

#[derive(Debug, clap::Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

pub fn run(options: Options) -> Result<()> {
    let Options { name, task } = options;
    if matches!(task, Task::Up) {
        possible()?;
    }
    if !matches!(task, Task::Build) {
        build_runner()?;
    }
    match task {
        Task::Build => build().map(drop),
        Task::Up => up(&name),
        Task::Images(options) => {
            dashboard::build(dashboard::Args::default())?;
            import(&name, options)
        }
        Task::Down => hand_over(&name, "down", &[]),
        Task::Status => hand_over(&name, "status", &[]),
        Task::Kubectl(rest) => {
            let mut arguments = vec!["kubectl".to_owned()];
            arguments.extend(rest.arguments);
            hand_over(&name, "enter", &arguments)
        }
        Task::Helm(rest) => {
            let mut arguments = vec![helm()?.display().to_string()];
            arguments.extend(rest.arguments);
            hand_over(&name, "enter", &arguments)
        }
        Task::Enter(rest) => hand_over(&name, "enter", &rest.arguments),
    }
}

/// The real Helm, built the first time.
pub fn helm() -> Result<PathBuf> {
    Ok(HELM.build(|_| Ok(()))?.join("helm"))
}

/// Says in one line why this machine cannot have a node, before anything is built for one.
pub fn possible() -> Result<()> {
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    ensure!(
        root,
        "a Kubernetes node cannot run here: namespaces, mounts and control groups need root; run this as root"
    );
    let mut probe = Command::new("unshare");
    probe.args(["--pid", "--mount", "--net", "--uts", "--ipc", "--fork", "--", "true"]);
    let why = match probe.output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
        Err(error) => format!("unshare: {error}"),
    };
    bail!(
        "a Kubernetes node cannot run here: it lives in namespaces of its own, which this machine does not give ({why})"
    );
}

/// Starts the node and comes back.
pub fn up(name: &str) -> Result<()> {
    let mut up = mesh_cluster(name)?;
    up.arg("up");
    for tools in build()? {
        up.arg("--tools").arg(tools);
    }
    shell::run(&mut up)
}

pub fn down(name: &str) -> Result<()> {
    shell::run(mesh_cluster(name)?.arg("down"))
}

/// Folders with the node's programs and images.
fn build() -> Result<Vec<PathBuf>> {
    packages::install("nodes", &packages::NODE)?;
    let kubernetes = KUBERNETES.build(|dir| {
        for part in PARTS {
            symlink("kubernetes", dir.join(part)).with_context(|| format!("name a program {part}"))?;
        }
        pack(dir, "pause", "pause:1", NOBODY)
    })?;
    // It binds port 53, which is root's.
    let coredns = COREDNS.build(|dir| pack(dir, "coredns", "coredns:1.14.7", "0:0"))?;
    Ok(vec![kubernetes, coredns])
}

fn pack(dir: &Path, program: &str, image: &str, user: &str) -> Result<()> {
    let image = Image {
        names: vec![format!("docker.io/library/{image}")],
        files: vec![(program, dir.join(program))],
        entrypoint: &format!("/{program}"),
        user,
    };
    image.pack(&dir.join(format!("{program}.tar"))).map(drop)
}

/// Builds our own images and brings them onto the node. The dashboard must have been built.
pub fn import(name: &str, options: ImageOptions) -> Result<()> {
    let mut import = mesh_cluster(name)?;
    import.arg("import");
    let mut total = 0;
    for (program, Packed { archive, gzip_bytes, .. }) in images::for_stories(options.release)? {
        eprintln!("  {program}: {:.1} MB compressed, {}", gzip_bytes as f64 / 1e6, archive.display());
        if ["mesh-operator", "mesh-proxy"].contains(&program) {
            total += gzip_bytes;
        }
        import.arg(archive);
    }
    eprintln!("operator and proxy together: {:.1} MB compressed", total as f64 / 1e6);
    shell::run(&mut import)
}

/// Builds the program that runs nodes.
pub fn build_runner() -> Result<()> {
    shell::run(&mut cargo(&["build", "--quiet", "--package", "mesh-e2e", "--bin", "mesh-cluster"]))
}

/// The program that runs nodes, which somebody has built.
pub fn mesh_cluster(name: &str) -> Result<Command> {
    let mut command = Command::new(binaries()?.join("mesh-cluster"));
    command.args(["--name", name]).current_dir(workspace_root());
    Ok(command)
}

/// Becomes `mesh-cluster`, so that a shell or an editor within it has the terminal to itself.
fn hand_over(name: &str, task: &str, arguments: &[String]) -> Result<()> {
    let mut command = mesh_cluster(name)?;
    command.arg(task).args(arguments);
    if let Ok(here) = std::env::current_dir() {
        command.current_dir(here);
    }
    // Only returns when it failed.
    Err(command.exec()).context("start mesh-cluster")
}
