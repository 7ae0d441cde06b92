//! The command line of `mesh`. Its reference page is generated from here.

use clap::{Args, Parser, Subcommand, ValueEnum};
use mesh_api::{golden::Window, names};
use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

#[derive(Debug, Parser)]
#[command(name = "mesh", version, about = "A small, complete service mesh")]
pub struct Arguments {
    /// Where the operator's API is, without a cluster. Default: where `mesh demo` runs; else the operator of the cluster.
    #[arg(long, env = "MESH_OPERATOR", global = true, value_name = "URL")]
    pub operator: Option<String>,
    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole mesh with BookInfo on this machine: no cluster, no root, no container.
    Demo(DemoOptions),
    /// Print what the mesh is made of on a cluster, for `kubectl apply -f -`; or apply it.
    Install(InstallOptions),
    /// The same for a cluster that has a mesh: its values stay, unless others are given.
    Upgrade(InstallOptions),
    /// Print everything the mesh is made of on a cluster, for `kubectl delete -f -`; or delete it.
    Uninstall(UninstallOptions),
    /// Put a proxy into every Pod of YAML files, as the injector would.
    Inject(InjectOptions),
    /// Take the proxy out of every Pod of YAML files.
    Uninject(FilesOptions),
    /// Open the dashboard.
    Dashboard(DashboardOptions),
    /// Say whether everything is as it should be; exits 1 when something is not.
    Check(CheckOptions),
    /// Success, requests per second and latency of each workload.
    Stat(StatOptions),
    /// Who calls whom, and whether it is encrypted.
    Edges(WindowOptions),
    /// Routes, their rules, and where the traffic really went.
    Routes(WindowOptions),
    /// The endpoints a proxy would be given for a Service.
    Endpoints(EndpointsOptions),
    /// The policy a proxy would be given, as JSON.
    Policy(PolicyOptions),
    /// Who may call a workload, and which policy says so.
    Authz(AuthzOptions),
    /// Certificates: who has which, what a Pod shows, and a change to a new root.
    Identity(IdentityOptions),
    /// Version of this program and of the operator.
    Version(VersionOptions),
    /// Print a completion script for a shell.
    Completion { shell: clap_complete::Shell },
    /// Print what reference pages and the chart's files are made of.
    #[command(hide = true)]
    Reference {
        #[arg(value_enum, default_value = "commands")]
        page: Page,
    },
}

#[derive(Debug, Args)]
pub struct DemoOptions {
    /// Folder of Kubernetes manifests: the mesh's configuration, and the Pods to start.
    #[arg(long, default_value = "demo/manifests", value_name = "DIR")]
    pub manifests: PathBuf,
    /// Where keys, tokens and logs go. Default: mesh/demo in the user's state folder.
    #[arg(long, env = "MESH_DEMO_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where the dashboard and the API are served.
    #[arg(long, default_value = "127.0.0.1:8084", value_parser = address, value_name = "IP:PORT")]
    pub dashboard_addr: SocketAddr,
    /// Where the operator serves its proxies.
    #[arg(long, default_value = "127.0.0.1:8086", value_parser = address, value_name = "IP:PORT")]
    pub grpc_addr: SocketAddr,
    /// Pages read per second. Default: what the traffic Pod's manifest says.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub rps: Option<u32>,
    /// Start no traffic generator.
    #[arg(long)]
    pub no_traffic: bool,
    /// Exit 0 as soon as every expected edge has carried traffic over mutual TLS.
    #[arg(long, conflicts_with = "no_traffic")]
    pub until_ready: bool,
    /// How long to wait for a complete start.
    #[arg(long, default_value = "60s", value_parser = timeout, value_name = "DURATION")]
    pub timeout: Duration,
    /// Log filter of the operator and the proxies, such as `info` or `debug`.
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// Which cluster, as kubectl is told.
#[derive(Clone, Debug, Args)]
pub struct ClusterOptions {
    /// The kubeconfig file. Default: `KUBECONFIG`, else the one in the user's home, else the Pod we run in.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig. Default: its current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace that the operator lives in. Default: `mesh-system`.
    #[arg(long, env = "MESH_NAMESPACE", global = true, value_name = "NAME")]
    pub mesh_namespace: Option<String>,
}

impl ClusterOptions {
    pub fn mesh_namespace(&self) -> &str {
        self.mesh_namespace.as_deref().unwrap_or(names::OPERATOR_NAMESPACE)
    }

    /// Whether a cluster was asked for, and not just found.
    pub fn names_one(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }
}

/// Values of the chart; see the reference of values.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct ValuesOptions {
    /// Three operators on different nodes: `--set ha=true`.
    #[arg(long)]
    pub ha: bool,
    /// A value of the chart, such as `proxy.cores=2`; repeatable, and several with commas between.
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// A file of values; repeatable, later ones win, and `--set` over all of them.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub values: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InstallOptions {
    #[command(flatten)]
    pub values: ValuesOptions,
    /// The operator's namespace: `--set namespace.name=NAME`. Default: that of `--mesh-namespace`.
    #[arg(long, short)]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub apply: ApplyOptions,
}

#[derive(Debug, Args)]
pub struct ApplyOptions {
    /// Do it instead of printing it, and wait until it is done.
    #[arg(long)]
    pub apply: bool,
    /// How long to wait.
    #[arg(long, default_value = "2m", value_parser = timeout, value_name = "DURATION")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct UninstallOptions {
    #[command(flatten)]
    pub apply: ApplyOptions,
}

#[derive(Debug, Args)]
pub struct FilesOptions {
    /// YAML files; `-` is standard input.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct InjectOptions {
    #[command(flatten)]
    pub files: FilesOptions,
    #[command(flatten)]
    pub values: ValuesOptions,
}

#[derive(Debug, Args)]
pub struct CheckOptions {
    /// Whether a cluster is ready for `mesh install` with the same values; asks the API server and no operator.
    #[arg(long)]
    pub pre: bool,
    /// Only proxies, and the Pods that should have one.
    #[arg(long, conflicts_with = "pre")]
    pub proxy: bool,
    /// Only what is in this namespace, beside the mesh itself. With `--pre`: the operator's namespace.
    #[arg(long, short)]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub values: ValuesOptions,
    /// How long to wait until nothing fails any more, such as 30s or 5m. Default: 30s on a cluster that has a mesh, else not at all.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub wait: Option<Duration>,
    /// `short` leaves out what is well.
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: CheckOutput,
}

#[derive(Debug, Args)]
pub struct DashboardOptions {
    /// Print the URL and open no browser.
    #[arg(long, visible_alias = "url")]
    pub no_open: bool,
    /// On a cluster: the port on this machine.
    #[arg(long, default_value = "50750", value_name = "PORT")]
    pub port: u16,
}

#[derive(Debug, Args)]
pub struct WindowOptions {
    /// Only this namespace.
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// How far back to look: 10s, 1m, 5m, 15m or 1h.
    #[arg(long, short = 't', default_value = "1m", value_parser = window)]
    pub window: Window,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct StatOptions {
    /// Only this workload: `namespace/name`, or a name with `-n`.
    pub workload: Option<String>,
    #[command(flatten)]
    pub common: WindowOptions,
}

#[derive(Debug, Args)]
pub struct EndpointsOptions {
    /// Such as `reviews.bookinfo:9080`.
    #[arg(required = true)]
    pub authorities: Vec<String>,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct PolicyOptions {
    #[command(subcommand)]
    pub direction: PolicyDirection,
    /// There is no other form.
    #[arg(long, short, global = true, value_enum, default_value = "json")]
    pub output: PolicyOutput,
}

#[derive(Debug, Subcommand)]
pub enum PolicyDirection {
    /// What a client's proxy is told of a Service.
    Outbound {
        /// Such as `reviews.bookinfo:9080`.
        authority: String,
        /// Who asks, as `namespace/pod` or a namespace: routes can differ by it. Default: the Service's own namespace.
        #[arg(long)]
        from: Option<String>,
    },
    /// What a Pod's own proxy is told of one of its ports.
    Inbound {
        /// Such as `bookinfo/ratings-v1:9080`, or `ratings-v1:9080` with `-n`.
        pod: String,
        /// The Pod's namespace. Default: as kubectl takes it.
        #[arg(long, short)]
        namespace: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct AuthzOptions {
    /// The workload that is called: `namespace/name`, or a name with `-n`.
    pub to: String,
    /// Only this client: `namespace/name` of a workload, or a name with `-n`.
    #[arg(long)]
    pub from: Option<String>,
    /// The namespace of what is named without. Default: as kubectl takes it.
    #[arg(long, short)]
    pub namespace: Option<String>,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct IdentityOptions {
    #[command(subcommand)]
    pub action: IdentityAction,
}

#[derive(Debug, Subcommand)]
pub enum IdentityAction {
    /// Change to a new root without a restart, and show how far that is. The operator does it, in some minutes; the Secret with the
    /// keys is annotated to ask for it.
    Rotate(RotateOptions),
    /// Meshed Pods, what is left of their certificates, and whether they are of the current issuer.
    List(IdentityListOptions),
    /// The certificates that a Pod's proxy shows, as the operator sees them when it connects; exits 1 when the mesh does not believe them.
    Show(IdentityShowOptions),
}

#[derive(Debug, Args)]
pub struct RotateOptions {
    /// How long to look on.
    #[arg(long, default_value = "15m", value_parser = timeout, value_name = "DURATION")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct IdentityListOptions {
    /// Only this namespace.
    #[arg(long, short)]
    pub namespace: Option<String>,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct IdentityShowOptions {
    /// `namespace/pod`, or a name with `-n`.
    pub pod: String,
    /// The Pod's namespace. Default: as kubectl takes it.
    #[arg(long, short)]
    pub namespace: Option<String>,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct VersionOptions {
    /// Do not ask the operator.
    #[arg(long)]
    pub client: bool,
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Page {
    Commands,
    Values,
    ValuesYaml,
    ValuesSchema,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyOutput {
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckOutput {
    Table,
    Short,
    Json,
}

/// One that others can be told: not whatever port the system has free.
fn address(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() > 0);
    address.ok_or_else(|| "want an IP address and a port above 0, such as 127.0.0.1:8084".into())
}

fn window(text: &str) -> Result<Window, String> {
    Window::parse(text).ok_or_else(|| {
        let known: Vec<_> = Window::ALL.iter().map(|w| w.as_str()).collect();
        format!("want one of {}", known.join(", "))
    })
}

/// A namespace may stand before the command, as kubectl has it: it is moved behind, where the command takes it or says that it does not.
pub fn in_order(program: &clap::Command, mut words: Vec<OsString>) -> Vec<OsString> {
    let (mut at, mut namespace) = (1, None);
    while let Some(word) =
        words.get(at).map(|word| word.to_string_lossy()).filter(|word| word.starts_with('-'))
    {
        // `-nshop` and `--namespace=shop` hold their value; a value may be called as a command is.
        let is_whole =
            word.contains('=') || (word.len() > 2 && !word.starts_with("--")) || VALUELESS.contains(&&*word);
        let end = words.len().min(at + if is_whole { 1 } else { 2 });
        if word.starts_with("-n") || word.starts_with("--namespace") {
            namespace = Some(at..end);
        }
        at = end;
    }
    let is_command =
        |word: &OsString| word.to_str().is_some_and(|word| program.find_subcommand(word).is_some());
    if let Some(namespace) = namespace.filter(|_| words.get(at).is_some_and(is_command)) {
        let moved: Vec<OsString> = words.drain(namespace).collect();
        words.extend(moved);
    }
    words
}

/// What may stand before a command and is whole by itself.
const VALUELESS: [&str; 4] = ["-h", "--help", "-V", "--version"];

/// A duration that ends.
fn timeout(text: &str) -> Result<Duration, String> {
    let within = Duration::from_secs(1)..=Duration::from_secs(3_600);
    Some(duration(text)?).filter(|timeout| within.contains(timeout)).ok_or_else(|| "want 1s to 1h".into())
}

/// `30s`, `5m`, `1h`, or seconds alone.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let unit_s = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        _ => None,
    };
    let number: Option<u64> = digits.parse().ok().filter(|number| *number <= 86_400);
    let duration = number.zip(unit_s).map(|(number, unit_s)| Duration::from_secs(number * unit_s));
    duration.ok_or_else(|| "want a duration such as 30s, 5m or 1h".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port() {
        assert_eq!(address("[::1]:9000"), Ok(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9000))));
        for text in ["", "127.0.0.1", "127.0.0.1:0", "localhost:80", "127.0.0.1:65536"] {
            assert!(address(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_namespace_may_stand_before_the_command() {
        let program = <Arguments as clap::CommandFactory>::command();
        let ordered = |line: &str| {
            let words = in_order(&program, line.split(' ').map(Into::into).collect());
            words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        for (line, expected) in [
            ("mesh -n shop stat", "mesh stat -n shop"),
            ("mesh --context c --namespace shop authz web", "mesh --context c authz web --namespace shop"),
            ("mesh --namespace=shop stat", "mesh stat --namespace=shop"),
            ("mesh -nshop --context c stat", "mesh --context c stat -nshop"),
            ("mesh -n demo stat", "mesh stat -n demo"),
            ("mesh --context demo stat", "mesh --context demo stat"),
            ("mesh -n shop stta", "mesh -n shop stta"),
            ("mesh stat -n shop", "mesh stat -n shop"),
            ("mesh -n shop", "mesh -n shop"),
            ("mesh", "mesh"),
        ] {
            assert_eq!(ordered(line), expected);
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("0", 0), ("90", 90), ("30s", 30), ("5m", 300), ("1h", 3_600)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5m", "5d", "5 m", "99999999999999999999"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert_eq!(timeout("30s"), Ok(Duration::from_secs(30)));
        for text in ["0", "0s", "2h", "soon"] {
            assert!(timeout(text).is_err(), "{text:?}");
        }
    }
}
