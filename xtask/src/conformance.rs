//! `cargo xtask conformance`: holds the mesh on a node against the Gateway API's own suite, the profiles for meshes. Builds the suite and
//! what its Pods run, under the names that its manifests give them.

use crate::{
    cluster,
    gateway_api::{self, Channel},
    go::Module,
    image::{Image, NOBODY},
    shell,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

const SUITE: Module = Module {
    name: gateway_api::MODULE,
    title: "the Gateway API's conformance suite (2 minutes on two free cores)",
    packages: &["sigs.k8s.io/gateway-api/conformance/echo-basic"],
    linked: &[],
    test: Some("conformance.test"),
};

const ECHO: Module = Module {
    name: "echo",
    title: "the echo server of the suite's mesh (2 minutes on two free cores)",
    packages: &["istio.io/istio/pkg/test/echo/cmd/server", "istio.io/istio/pkg/test/echo/cmd/client"],
    linked: &[],
    test: None,
};

/// How long a guard may be obeyed that is no more.
const GUARDED: Duration = Duration::from_secs(20);

/// What we say that we do: all that is Core, and the extended features that the contract with proxies can carry. Paths cannot be
/// rewritten by it.
const FEATURES: &str = "Mesh,HTTPRoute,GRPCRoute,MeshClusterIPMatching,MeshConsumerRoute,MeshHTTPRouteSchemeRedirect,\
    MeshHTTPRouteRedirectPort,MeshHTTPRouteRedirectPath,MeshHTTPRouteBackendRequestHeaderModification,\
    MeshHTTPRouteQueryParamMatching,MeshHTTPRouteNamedRouteRule,HTTPRouteParentRefPort,HTTPRouteResponseHeaderModification,\
    HTTPRoute303RedirectStatusCode,HTTPRoute307RedirectStatusCode,HTTPRoute308RedirectStatusCode";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The node to run on. It runs already, with the mesh installed unless `--baseline` is given.
    #[arg(long, default_value = "mesh")]
    name: String,
    /// Without a mesh: what Kubernetes alone passes, which a mesh must lift.
    #[arg(long)]
    baseline: bool,
    /// Where the suite writes its report.
    #[arg(long, default_value = "target/conformance.yaml")]
    report: PathBuf,
    /// For the suite, such as `--run-test=NAME` or `--supported-features=…`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Options {
    /// A run against the mesh that is installed on a node.
    pub fn on(node: &str) -> Options {
        Options {
            name: node.to_owned(),
            baseline: false,
            report: PathBuf::from("target/conformance.yaml"),
            arguments: vec![],
        }
    }
}

pub fn run(options: Options) -> Result<()> {
    let suite = SUITE.build(|dir| {
        let images = ["v1.5.1", "v1.6.0-dev.2", "v1.6.0-dev.3"];
        pack(
            dir,
            "echo-basic",
            &images.map(|tag| format!("echo-basic:{tag}")),
            "/echo-basic",
            &["echo-basic"],
        )?;
        gateway_api::copy(Channel::Experimental, &dir.join("crds"))
    })?;
    let echo = ECHO.build(|dir| {
        key_pair(dir)?;
        let files = ["usr/local/bin/server", "usr/local/bin/client", "cert.crt", "cert.key"];
        pack(dir, "echo-advanced", &["echo-advanced:v1.5.1".to_owned()], "/usr/local/bin/server", &files)
    })?;

    cluster::build_runner()?;
    let node = |task: &str| {
        cluster::mesh_cluster(&options.name).map(|mut command| {
            command.arg(task);
            command
        })
    };
    shell::run(node("import")?.args([suite.join("echo-basic.tar"), echo.join("echo-advanced.tar")]))?;
    // The node may have the standard channel already, which guards itself against the experimental one.
    let guards = ["validatingadmissionpolicy", "validatingadmissionpolicybinding"];
    for guard in guards.map(|kind| format!("{kind}/safe-upgrades.gateway.networking.k8s.io")) {
        shell::run(node("enter")?.args(["kubectl", "delete", "--ignore-not-found", &guard]))?;
    }
    let apply = |arguments: &[&str]| -> Result<()> {
        let apply = ["kubectl", "apply", "--server-side", "--force-conflicts", "--filename"];
        shell::run(node("enter")?.args(apply).arg(suite.join("crds")).args(arguments))
    };
    // The API server goes by the guards for a moment more, and they are among what is applied: so it is tried without effect first.
    let start = Instant::now();
    while let Err(error) = apply(&["--dry-run=server"]) {
        ensure!(start.elapsed() < GUARDED, error);
        thread::sleep(Duration::from_secs(1));
    }
    apply(&[])?;

    let report = std::path::absolute(&options.report).context("find where the report goes")?;
    // The suite makes no folder, and builds may go elsewhere than to `target`.
    if let Some(folder) = report.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let mut test = node("enter")?;
    test.arg(suite.join("conformance.test"))
        .args(["-test.v", "-test.timeout=40m", "-test.run=^TestConformance$"])
        .args(["--conformance-profiles=MESH-HTTP,MESH-GRPC", "--organization=mesh", "--project=mesh"])
        .args(["--url=https://example.invalid", "--contact=none"])
        .arg(format!("--version={}", env!("CARGO_PKG_VERSION")))
        .arg(format!("--report-output={}", report.display()));
    // Without a list it asks the status of a GatewayClass, which no mesh needs to have.
    if !options.arguments.iter().any(|argument| argument.starts_with("--supported-features")) {
        test.arg(format!("--supported-features={FEATURES}"));
    }
    if !options.baseline {
        test.arg("--namespace-annotations=mesh.dev/inject=enabled");
    }
    let tested = shell::run(test.args(&options.arguments));
    if report.exists() {
        eprintln!("report: {}", report.display());
    }
    tested
}

/// Files of the image are found in `dir` by their last name.
fn pack(dir: &Path, archive: &str, names: &[String], entrypoint: &str, files: &[&str]) -> Result<()> {
    let here = |file: &str| dir.join(file.rsplit('/').next().unwrap_or(file));
    let image = Image {
        names: names.iter().map(|name| format!("registry.k8s.io/gateway-api/{name}")).collect(),
        files: files.iter().map(|file| (*file, here(file))).collect(),
        entrypoint,
        user: NOBODY,
    };
    image.pack(&dir.join(format!("{archive}.tar"))).map(drop)
}

/// The server wants one for its TLS port. It proves nothing, and so Go's own example of how to make one will do.
fn key_pair(dir: &Path) -> Result<()> {
    let root = shell::output(Command::new("go").args(["env", "GOROOT"]))?;
    let generate = Path::new(root.trim()).join("src/crypto/tls/generate_cert.go");
    shell::run(Command::new("go").arg("run").arg(generate).args(["--host", "echo"]).current_dir(dir))?;
    for (from, to) in [("cert.pem", "cert.crt"), ("key.pem", "cert.key")] {
        fs::rename(dir.join(from), dir.join(to)).with_context(|| format!("name {to}"))?;
    }
    Ok(())
}
