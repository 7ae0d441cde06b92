//! `mesh demo` as a user starts it, on a copy of the demo's manifests.

use crate::{
    binaries,
    client::{self, Body, Reply},
    mesh,
    process::{self, Process, Start},
    wait,
};
use http::Request;
use mesh_api::names;
use serde::de::DeserializeOwned;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Output,
    time::Duration,
};
use tempfile::TempDir;

/// BookInfo's pods by the last number of their addresses, as the demo's manifests give them.
const PODS: [(&str, u8); 7] = [
    ("productpage-v1", 1),
    ("details-v1", 2),
    ("reviews-v1", 3),
    ("reviews-v2", 4),
    ("reviews-v3", 5),
    ("ratings-v1", 6),
    ("traffic", 7),
];

/// Where a browser finds the product page.
pub const PAGE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1)), 9080);

#[derive(Debug)]
pub struct Demo {
    pub process: Process,
    dir: TempDir,
}

impl Demo {
    pub const HTTP: SocketAddr = mesh::Operator::HTTP;

    /// Starts it with these flags and does not wait.
    pub fn spawn(flags: &[&str]) -> Demo {
        Demo::spawn_with(flags, |_| {})
    }

    /// The same after a change to its copy of the manifests.
    pub fn spawn_with(flags: &[&str], change: impl FnOnce(&Manifests)) -> Demo {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let manifests = Manifests { dir: dir.path().join("manifests") };
        manifests.copy();
        change(&manifests);
        let process = Start::new("mesh demo", binaries::path("mesh"))
            .arg("demo")
            .arg("--manifests")
            .arg(&manifests.dir)
            .arg("--state-dir")
            .arg(dir.path().join("state"))
            .args(flags)
            .spawn();
        Demo { process, dir }
    }

    /// Starts it and waits until its page answers through the mesh.
    pub async fn start(flags: &[&str]) -> Demo {
        Demo::start_with(flags, |_| {}).await
    }

    pub async fn start_with(flags: &[&str], change: impl FnOnce(&Manifests)) -> Demo {
        let demo = Demo::spawn_with(flags, change);
        wait::until("BookInfo's page through the mesh", Duration::from_secs(60), async || match client::get(
            PAGE,
            "/productpage",
        )
        .await
        {
            Ok(page) if page.status() == 200 => Ok(()),
            Ok(page) => Err(format!("{} {}", page.status(), String::from_utf8_lossy(page.body()))),
            Err(error) => Err(format!("{error:#}")),
        })
        .await;
        demo
    }

    pub fn manifests(&self) -> Manifests {
        Manifests { dir: self.dir.path().join("manifests") }
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Sends as a pod's application does.
    pub async fn send(&self, from: &str, request: Request<Body>) -> Reply {
        client::send(outbound(from), request)
            .await
            .unwrap_or_else(|error| panic!("no response to {from}: {error:#}"))
    }

    pub async fn get(&self, from: &str, to: &str) -> Reply {
        self.send(from, client::to(&format!("http://{to}"))).await
    }

    pub async fn api<T: DeserializeOwned>(&self, path: &str) -> T {
        mesh::api(Demo::HTTP, path).await.unwrap_or_else(|error| panic!("{path}: {error:#}"))
    }

    pub async fn cli(&self, args: &[&str]) -> Output {
        mesh::cli(Demo::HTTP, args).await
    }
}

/// Where a pod's application sends to.
pub fn outbound(pod: &str) -> SocketAddr {
    let (_, number) =
        PODS.iter().find(|(name, _)| *name == pod).unwrap_or_else(|| panic!("BookInfo has no {pod}"));
    SocketAddr::from(([127, 0, 1, *number], names::OUTBOUND_PORT))
}

/// The demo's copy of the manifests.
#[derive(Clone, Debug)]
pub struct Manifests {
    dir: PathBuf,
}

impl Manifests {
    pub fn at(dir: &std::path::Path) -> Manifests {
        Manifests { dir: dir.to_owned() }
    }

    /// Makes the folder with what is in the demo's.
    pub fn copy(&self) {
        fs::create_dir(&self.dir).expect("a temporary folder is writable");
        let from = binaries::workspace().join("demo/manifests");
        for entry in fs::read_dir(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
            let entry = entry.expect("the folder is readable");
            fs::copy(entry.path(), self.dir.join(entry.file_name())).expect("the folder is writable");
        }
    }

    pub fn read(&self, file: &str) -> String {
        let path = self.dir.join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn save(&self, file: &str, text: &str) {
        process::save(&self.dir.join(file), text);
    }

    /// Replaces a text that must be there.
    pub fn replace(&self, file: &str, from: &str, to: &str) {
        let text = self.read(file);
        assert!(text.contains(from), "{file} does not contain {from:?}");
        self.save(file, &text.replace(from, to));
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }
}
