//! A whole mesh: the real operator on a folder of manifests, a real proxy beside every pod, and an origin of the test as each
//! pod's application.

use crate::{
    binaries,
    client::{self, Body, Reply},
    clock::Clock,
    origin::Origin,
    pod::{Pod, Proxy, ProxyStart},
    process::{self, Process, Start},
    wait::{self, SOON},
    world::World,
};
use http::Request;
use mesh_api::names;
use serde::de::DeserializeOwned;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};
use tempfile::TempDir;

#[derive(Debug)]
pub struct Mesh {
    pub operator: Operator,
    pub proxies: BTreeMap<String, Proxy>,
    pub origins: BTreeMap<String, Origin>,
    namespace: String,
}

impl Mesh {
    /// Starts everything and waits until every proxy is ready. Each pod's application is an HTTP origin on its first port.
    pub async fn start(world: World) -> Mesh {
        Mesh::start_with(world, |proxy| proxy).await
    }

    /// The same with other settings for all proxies.
    pub async fn start_with(world: World, settings: impl Fn(ProxyStart) -> ProxyStart) -> Mesh {
        let operator = Operator::start(&world, &[]).await;
        Mesh::around(operator, world, settings).await
    }

    /// The same, all of it by a wall clock of the test's.
    pub async fn start_by(clock: &Clock, world: World) -> Mesh {
        let operator = Operator::start_by(clock, &world).await;
        Mesh::around(operator, world, |proxy| proxy.by(clock)).await
    }

    async fn around(operator: Operator, world: World, settings: impl Fn(ProxyStart) -> ProxyStart) -> Mesh {
        let mut proxies = BTreeMap::new();
        let mut origins = BTreeMap::new();
        for pod in &world.pods {
            if let Some(port) = pod.ports.first() {
                origins.insert(pod.name.clone(), Origin::start(&pod.name, pod.app(*port)).await);
            }
            proxies.insert(pod.name.clone(), settings(operator.proxy(pod)).spawn());
        }
        for proxy in proxies.values() {
            proxy.ready(SOON).await;
        }
        let namespace = world.pods.first().map(|pod| pod.namespace.clone()).unwrap_or_default();
        Mesh { operator, proxies, origins, namespace }
    }

    pub fn proxy(&self, pod: &str) -> &Proxy {
        self.proxies.get(pod).unwrap_or_else(|| panic!("there is no pod {pod}"))
    }

    pub fn origin(&self, pod: &str) -> &Origin {
        self.origins.get(pod).unwrap_or_else(|| panic!("there is no origin {pod}"))
    }

    /// Sends as the application of a pod does.
    pub async fn send(&self, from: &str, request: Request<Body>) -> Reply {
        let sent = client::send(self.proxy(from).pod.outbound(), request).await;
        sent.unwrap_or_else(|error| panic!("no response to {from}: {error:#}"))
    }

    /// GET of `service:port/path` by the application of a pod.
    pub async fn get(&self, from: &str, to: &str) -> Reply {
        self.send(from, client::to(&format!("http://{to}"))).await
    }

    /// The status of a GET; 0 when no response came.
    pub async fn status(&self, from: &str, to: &str) -> u16 {
        let request = client::to(&format!("http://{to}"));
        client::send(self.proxy(from).pod.outbound(), request).await.map_or(0, |reply| reply.status.as_u16())
    }

    /// Waits until a GET has this status.
    pub async fn answers(&self, from: &str, to: &str, status: u16) {
        let what = format!("{status} for {from} from {to}");
        wait::until(&what, SOON, async || match self.status(from, to).await {
            got if got == status => Ok(()),
            got => Err(got),
        })
        .await;
    }

    /// How many requests each origin has had since the last call.
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        self.origins.iter().map(|(name, origin)| (name.as_str(), origin.reset())).collect()
    }

    /// Writes a manifest and goes on at once.
    pub fn edit(&self, file: &str, yaml: &str) {
        process::save(&self.operator.manifests().join(file), yaml);
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// The real operator with its two folders.
#[derive(Debug)]
pub struct Operator {
    dir: TempDir,
    flags: Vec<String>,
    pub process: Process,
}

impl Operator {
    pub const HTTP: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), names::OPERATOR_HTTP_PORT);
    pub const GRPC: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), names::OPERATOR_GRPC_PORT);

    /// Starts it on a world and waits until it serves.
    pub async fn start(world: &World, flags: &[&str]) -> Operator {
        Operator::start_on(|manifests| world.write(manifests), flags).await
    }

    /// The same by a wall clock of the test's.
    pub async fn start_by(clock: &Clock, world: &World) -> Operator {
        Operator::begin(|manifests| world.write(manifests), &[], |start| clock.rules(start)).await
    }

    /// Starts it on a folder that `write` makes.
    pub async fn start_on(write: impl FnOnce(&Path), flags: &[&str]) -> Operator {
        Operator::begin(write, flags, |start| start).await
    }

    async fn begin(
        write: impl FnOnce(&Path),
        flags: &[&str],
        settings: impl FnOnce(Start) -> Start,
    ) -> Operator {
        let dir = tempfile::tempdir().expect("a temporary folder");
        write(&dir.path().join("manifests"));
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let process = settings(operator(dir.path(), &flags)).spawn();
        let operator = Operator { dir, flags, process };
        operator.serves().await;
        operator
    }

    /// Starts it again after it was killed, with the same folders.
    pub async fn restart(&mut self) {
        self.process.kill().await;
        self.process = operator(self.dir.path(), &self.flags).spawn();
        self.serves().await;
    }

    async fn serves(&self) {
        wait::until("the operator to serve", SOON, async || {
            client::get(Operator::HTTP, "/api/v1/version").await
        })
        .await;
    }

    pub fn manifests(&self) -> PathBuf {
        self.dir.path().join("manifests")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn token(&self, namespace: &str, service_account: &str) -> PathBuf {
        self.state().join("tokens").join(namespace).join(service_account)
    }

    /// The proxy of a pod, not started.
    pub fn proxy(&self, pod: &Pod) -> ProxyStart {
        let token = self.token(&pod.namespace, &pod.service_account);
        ProxyStart::new(pod, self.state().join("trust-anchors.pem"), token)
    }

    /// A resource of the JSON API.
    pub async fn api<T: DeserializeOwned>(&self, path: &str) -> T {
        api(Operator::HTTP, path).await.unwrap_or_else(|error| panic!("{path}: {error:#}"))
    }

    /// Runs `mesh` against this operator.
    pub async fn cli(&self, args: &[&str]) -> Output {
        cli(Operator::HTTP, args).await
    }
}

/// A resource of an operator's JSON API.
pub async fn api<T: DeserializeOwned>(addr: SocketAddr, path: &str) -> anyhow::Result<T> {
    let response = client::get(addr, path).await?;
    anyhow::ensure!(
        response.status() == 200,
        "{} {}",
        response.status(),
        String::from_utf8_lossy(response.body())
    );
    Ok(serde_json::from_slice(response.body())?)
}

/// Runs `mesh` against an operator.
pub async fn cli(operator: SocketAddr, args: &[&str]) -> Output {
    let mesh = Start::new("mesh", binaries::path("mesh"));
    mesh.arg("--operator").arg(format!("http://{operator}")).args(args).output(Duration::from_secs(20)).await
}

/// What a command printed on standard output.
pub fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn operator(dir: &Path, flags: &[String]) -> Start {
    Start::new("operator", binaries::path("mesh-operator"))
        .arg("--manifests")
        .arg(dir.join("manifests"))
        .arg("--state-dir")
        .arg(dir.join("state"))
        .args(flags)
}
