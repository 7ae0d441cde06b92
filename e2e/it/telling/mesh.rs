//! The mesh on the stories' node: installed once, by the command line, as a user does it.

use super::{
    app,
    place::{Place, SOON},
};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{Api, api::PostParams};
use mesh_api::names;
use mesh_tests::{
    binaries,
    process::{Process, Start},
    wait,
};
use serde_json::json;
use std::{env, ffi::OsString, fs, path::PathBuf, process::Output, sync::OnceLock, time::Duration};
use tokio::sync::Mutex;

/// Which of the chart's values stories change: the node has no way to pull.
pub const VALUES: [&str; 2] = ["--set", "images.pullPolicy=Never"];

/// The longest command: a rotation, which waits for kubelet to bring the anchors to every Pod, twice.
const COMMAND: Duration = Duration::from_secs(180);

/// Whether this run's mesh has come. Held while it is being installed, so that others wait.
static INSTALLED: OnceLock<Mutex<bool>> = OnceLock::new();

pub struct Mesh<'a> {
    place: &'a Place,
}

/// The mesh, for a story that wants one.
pub async fn mesh(place: &Place) -> Mesh<'_> {
    let mesh = Mesh { place };
    let mut installed = INSTALLED.get_or_init(Mutex::default).lock().await;
    if !*installed || !mesh.is_there().await {
        mesh.install(&[]).await;
        *installed = true;
    }
    mesh
}

/// The mesh, and Pods of this namespace are to be meshed.
pub async fn meshed(place: &Place) -> Mesh<'_> {
    let mesh = mesh(place).await;
    place.annotate(&json!({ names::INJECT: "enabled" })).await;
    injected(place).await;
    mesh
}

/// Waits until new Pods are meshed: the API server's own picture of a namespace is behind for a moment.
pub async fn injected(place: &Place) {
    let pod: Pod = serde_saphyr::from_str(&app::client("tried")).unwrap();
    let dry_run = PostParams { dry_run: true, ..Default::default() };
    wait::until("Pods to be meshed", SOON, async || match place.api().create(&dry_run, &pod).await {
        Ok(pod) if is_meshed(&pod) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// The real Helm.
pub fn helm() -> OsString {
    env::var_os("MESH_E2E_HELM").expect("MESH_E2E_HELM names the Helm to try")
}

pub fn is_meshed(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.any(|container| container.name == names::PROXY_CONTAINER)
}

impl Mesh<'_> {
    /// Whatever there is: for stories that only ask the command line.
    pub fn of(place: &Place) -> Mesh<'_> {
        Mesh { place }
    }

    /// Installs it, or changes what is there, and waits until it is ready.
    pub async fn install(&self, flags: &[&str]) -> String {
        let flags = [&["install", "--apply"], &VALUES[..], flags].concat();
        self.cli(&flags).await
    }

    /// A story that takes the mesh away need not bring it back.
    async fn is_there(&self) -> bool {
        let operators: Api<Deployment> =
            Api::namespaced(self.place.client.clone(), names::OPERATOR_NAMESPACE);
        operators.get_opt(names::OPERATOR).await.unwrap().is_some()
    }

    /// Brings the Gateway API's kinds onto the node, as the administrator of a cluster does.
    pub async fn gateway_api(&self) {
        let folder =
            env::var("MESH_E2E_GATEWAY_API").expect("MESH_E2E_GATEWAY_API names a folder of definitions");
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        // Beside them lies a list of them, which is no object.
        files.retain(|file| !file.ends_with("kustomization.yaml"));
        for file in files {
            self.place.apply(&fs::read_to_string(file).unwrap()).await;
        }
    }

    /// What a command of ours prints; it must succeed.
    pub async fn cli(&self, arguments: &[&str]) -> String {
        succeeded(&format!("mesh {}", arguments.join(" ")), self.run(arguments).await)
    }

    /// What `mesh check` finds in the story's namespace now, be it good or bad.
    pub async fn findings(&self) -> String {
        let told = self.run(&["check", "-n", &self.place.namespace, "--wait", "0s"]).await;
        String::from_utf8_lossy(&told.stdout).into_owned()
    }

    /// What a line of a user's shell prints, with `mesh`, `kubectl` and `helm` at hand; all of it must succeed.
    pub async fn shell(&self, line: &str) -> String {
        let mut programs = self.place.node.tools();
        let own = [PathBuf::from(helm()), binaries::path("mesh")];
        programs.extend(own.iter().map(|program| program.parent().unwrap().to_owned()));
        programs.extend(env::split_paths(&env::var_os("PATH").unwrap()));
        let shell = Start::new("bash", "/bin/bash")
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(binaries::workspace())
            .env("PATH", env::join_paths(programs).unwrap())
            .env("KUBECONFIG", self.place.node.kubeconfig());
        let printed = succeeded(line, shell.output(COMMAND).await);
        println!("$ {line}\n{printed}");
        printed
    }

    /// Runs `mesh` in the node's network, as administrator.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output(COMMAND).await
    }

    /// The same for a command that goes on until it is dropped.
    pub fn begin(&self, arguments: &[&str]) -> Process {
        self.command(arguments).spawn()
    }

    fn command(&self, arguments: &[&str]) -> Start {
        let mesh = Start::new("mesh", binaries::path("mesh"));
        mesh.args(arguments).env("KUBECONFIG", self.place.node.kubeconfig())
    }
}

fn succeeded(what: &str, Output { status, stdout, stderr }: Output) -> String {
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(status.success(), "{what}: {status}\n{stdout}\n{stderr}");
    stdout
}
