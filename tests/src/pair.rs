//! Two pods, each with its real proxy, under the scripted control plane: `client` calls `web`.

use crate::{
    client::{self, Body, Reply},
    control_plane::{
        ControlPlane, Fault, Topic,
        message::{self, Client, Endpoint},
    },
    origin::Origin,
    pod::{Pod, Proxy, ProxyStart},
    process,
    relay::Relay,
    wait::{self, SOON},
};
use http::Request;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

/// Port of the application behind the server's proxy.
pub const PORT: u16 = 8080;
/// The Service's destination path, and the authority by which its policy is asked for.
pub const WEB: &str = "web.demo.svc.cluster.local:8080";

#[derive(Debug)]
pub struct Pair {
    pub client: Proxy,
    pub server: Proxy,
    pub origin: Origin,
    pub control_plane: ControlPlane,
    pub files: Files,
}

/// What proxies read from disk.
#[derive(Debug)]
pub struct Files {
    dir: TempDir,
}

impl Files {
    /// Trust anchors of a control plane, and tokens that say whose they are.
    pub fn new(trust_anchors: &str) -> Files {
        let files = Files { dir: tempfile::tempdir().expect("a temporary folder") };
        files.write("trust-anchors.pem", trust_anchors);
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        process::save(&path, text);
        path
    }

    /// Everybody may read them, as of a Pod's volumes.
    pub fn open(self) -> Files {
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.dir.path(), readable).expect("a folder of ours");
        self
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }
}

/// The pod that calls.
pub fn client_pod() -> Pod {
    Pod::new("client", 1, &[])
}

/// The pod that is called.
pub fn server_pod() -> Pod {
    Pod::new("web", 2, &[PORT])
}

/// How the control plane describes a pod's application to clients: mutual TLS through the pod's proxy.
pub fn endpoint(pod: &Pod) -> Endpoint {
    Endpoint {
        addr: pod.port(PORT),
        identity: Some(pod.identity()),
        h2: true,
        opaque: false,
        transport_port: Some(pod.inbound().port()),
        weight: 10_000,
    }
}

/// A proxy with its files, not started.
pub fn proxy(pod: &Pod, files: &Files) -> ProxyStart {
    let token = files.write(&format!("{}.token", pod.name), &format!("token of {}", pod.name));
    ProxyStart::new(pod, files.path("trust-anchors.pem"), token)
}

/// Everything allowed, one Service `web`, one endpoint behind mutual TLS.
pub fn describe(control_plane: &ControlPlane) {
    control_plane.outbound(WEB).set(message::plain_policy(WEB));
    control_plane.destination(WEB).set(message::add([endpoint(&server_pod())]));
    let anyone = message::server(vec![message::authorization("anyone", Client::Anyone)]);
    control_plane.inbound(&server_pod().workload(), PORT).set(anyone);
}

impl Pair {
    /// As `describe` says, both proxies ready.
    pub async fn start() -> Pair {
        Pair::start_with(|client| client, |server| server).await
    }

    /// The same with other settings for the two proxies.
    pub async fn start_with(
        client: impl FnOnce(ProxyStart) -> ProxyStart,
        server: impl FnOnce(ProxyStart) -> ProxyStart,
    ) -> Pair {
        Pair::start_under(|_| {}, client, server).await
    }

    /// The same, with a control plane that is told more before the proxies start.
    pub async fn start_under(
        tell: impl FnOnce(&ControlPlane),
        client: impl FnOnce(ProxyStart) -> ProxyStart,
        server: impl FnOnce(ProxyStart) -> ProxyStart,
    ) -> Pair {
        let control_plane = ControlPlane::start().await;
        describe(&control_plane);
        tell(&control_plane);
        let files = Files::new(&control_plane.ca.pem());
        let origin = Origin::start("web", server_pod().app(PORT)).await;
        let client = client(proxy(&client_pod(), &files)).spawn();
        let server = server(proxy(&server_pod(), &files)).ready().await;
        client.ready(crate::wait::SOON).await;
        Pair { client, server, origin, control_plane, files }
    }

    /// Puts a relay between the two proxies.
    pub async fn over_relay(&self) -> Relay {
        let relay = Relay::start(SocketAddr::from(([127, 0, 3, 2], 4143)), self.server.pod.inbound()).await;
        let mut relayed = endpoint(&self.server.pod);
        relayed.addr = SocketAddr::new(relay.addr.ip(), PORT);
        self.control_plane.destination(WEB).set(message::add([relayed]));
        relay
    }

    /// A GET by the client's application, as with `http_proxy` set.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(client::to(&format!("http://web.demo:{PORT}{path}"))).await
    }

    /// The status of a GET; 0 when no response came.
    pub async fn status(&self, path: &str) -> u16 {
        let request = client::to(&format!("http://web.demo:{PORT}{path}"));
        client::send(self.client.pod.outbound(), request).await.map_or(0, |reply| reply.status.as_u16())
    }

    /// Waits until `path` is answered with this status.
    pub async fn becomes(&self, what: &str, path: &str, expected: u16) {
        wait::until(what, SOON, async || match self.status(path).await {
            status if status == expected => Ok(()),
            status => Err(status),
        })
        .await;
    }

    /// Breaks a stream, and holds that requests go on as if nothing had been; the question is asked anew.
    pub async fn survives<M: prost::Message + Default>(&self, topic: &Topic<'_, M>, fault: Fault) {
        let asked = topic.times_asked();
        topic.fault(fault);
        self.goes_on(&format!("{fault:?}"), Duration::from_millis(500)).await;
        topic.asked(asked + 1, SOON).await;
        topic.has_a_stream().await;
    }

    /// Holds that every request succeeds.
    pub async fn goes_on(&self, through: &str, during: Duration) {
        wait::always(through, during, async || match self.status("/").await {
            200 => Ok(()),
            status => Err(status),
        })
        .await;
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        let sent = client::send(self.client.pod.outbound(), request).await;
        sent.unwrap_or_else(|error| panic!("no response through the client's proxy: {error:#}"))
    }
}
