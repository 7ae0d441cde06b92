//! Reads from the manifests which processes to start. What the rest of them means is the operator's work.

use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// The image name that stands for our own `mesh-demo` program.
const IMAGE: &str = "mesh-demo";
/// Pods live at 127.0.1.N; the application of a meshed one at 127.0.2.N.
const POD_NET: [u8; 3] = [127, 0, 1];
const APPLICATION_NET: [u8; 3] = [127, 0, 2];

#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub app: String,
    pub service_account: String,
    pub ip: Ipv4Addr,
    pub ports: Vec<u16>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Has a proxy beside it.
    pub meshed: bool,
    /// Answered with success once the application is ready.
    pub health_path: Option<String>,
}

impl Pod {
    /// Where the application listens: behind the proxy where there is one, else at the Pod's own address.
    pub fn application_ip(&self) -> Ipv4Addr {
        if !self.meshed {
            return self.ip;
        }
        let [a, b, c] = APPLICATION_NET;
        Ipv4Addr::new(a, b, c, self.ip.octets()[3])
    }

    /// The first container port is the one `mesh-demo` serves.
    pub fn application_addr(&self) -> SocketAddr {
        let port = self.ports.first().copied().unwrap_or(9080);
        SocketAddr::new(IpAddr::V4(self.application_ip()), port)
    }

    /// The part that its process plays: `productpage`, `traffic`, …
    pub fn role(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    pub fn is_traffic(&self) -> bool {
        self.role() == "traffic"
    }

    pub fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

pub fn read(dir: &Path) -> anyhow::Result<Vec<Pod>> {
    let objects = objects(dir)?;
    let mut injected: HashMap<String, bool> = HashMap::new();
    for object in objects.iter().filter(|object| object.kind == "Namespace") {
        injected.insert(object.metadata.name.clone(), object.metadata.inject() == Some(true));
    }
    let mut pods = vec![];
    for object in objects.into_iter().filter(|object| object.kind == "Pod") {
        let name = format!("{}/{}", object.metadata.namespace(), object.metadata.name);
        let namespace_injects = injected.get(object.metadata.namespace()).copied().unwrap_or(false);
        pods.push(pod(object, namespace_injects).with_context(|| format!("Pod {name}"))?);
    }
    ensure!(!pods.is_empty(), "{}: no Pod in there, so there is nothing to start", dir.display());
    for (i, pod) in pods.iter().enumerate() {
        if let Some(other) = pods[..i].iter().find(|other| other.ip == pod.ip) {
            bail!("Pods {} and {}: both have status.podIP {}", other.name, pod.name, pod.ip);
        }
        if let Some(other) = pods[..i].iter().find(|other| other.name == pod.name) {
            bail!(
                "Pod {} stands in {} and in {}: names must differ here",
                pod.name,
                other.namespace,
                pod.namespace
            );
        }
    }
    Ok(pods)
}

fn pod(object: Object, namespace_injects: bool) -> anyhow::Result<Pod> {
    let meshed = object.metadata.inject().unwrap_or(namespace_injects);
    let spec: Spec = serde_json::from_value(object.spec).context("spec")?;
    let status: Status = serde_json::from_value(object.status).context("status")?;
    let ip = status.pod_ip.context("no status.podIP: say 127.0.1.N, where `mesh demo` is to start it")?;
    let ip: Ipv4Addr = ip.parse().map_err(|_| anyhow!("status.podIP {ip:?}: want 127.0.1.N"))?;
    ensure!(ip.octets()[..3] == POD_NET, "status.podIP {ip}: `mesh demo` starts Pods at 127.0.1.N only");
    let [container] = <[Container; 1]>::try_from(spec.containers)
        .map_err(|all| anyhow!("{} containers: `mesh demo` starts Pods with one", all.len()))?;
    ensure!(
        image_name(&container.image) == IMAGE,
        "image {:?}: `mesh demo` has only its own program, image {IMAGE}",
        container.image
    );
    let mut env = vec![];
    for Env { name, value } in container.env {
        let value = value.with_context(|| format!("env {name}: `mesh demo` reads plain values only"))?;
        env.push((name, value));
    }
    let health = container.readiness_probe.and_then(|probe| probe.http_get);
    Ok(Pod {
        namespace: object.metadata.namespace().to_owned(),
        app: object.metadata.labels.get("app").cloned().unwrap_or_default(),
        name: object.metadata.name,
        service_account: spec.service_account_name.unwrap_or_else(|| "default".into()),
        ip,
        ports: container.ports.into_iter().map(|port| port.container_port).collect(),
        args: container.args,
        env,
        meshed,
        health_path: health.map(|get| get.path),
    })
}

/// `mesh-demo` of `registry/mesh-demo:tag`.
fn image_name(image: &str) -> &str {
    let name = image.rsplit('/').next().unwrap_or(image);
    name.split([':', '@']).next().unwrap_or(name)
}

fn objects(dir: &Path) -> anyhow::Result<Vec<Object>> {
    let entries = fs::read_dir(dir)
        .with_context(|| format!("manifests folder {} (name another with --manifests)", dir.display()))?;
    let mut files: Vec<PathBuf> = vec![];
    for entry in entries {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml");
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_yaml && !is_hidden {
            files.push(path);
        }
    }
    files.sort();
    let mut objects = vec![];
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let documents: Vec<Option<Object>> =
            serde_saphyr::from_multiple(&text).map_err(|e| anyhow!("{}: {e}", file.display()))?;
        for document in documents.into_iter().flatten() {
            if document.kind.ends_with("List") {
                for item in document.items {
                    objects.push(
                        serde_json::from_value(item).with_context(|| format!("{}: List", file.display()))?,
                    );
                }
            } else {
                objects.push(document);
            }
        }
    }
    Ok(objects)
}

/// Any Kubernetes object, as far as the demo reads it.
#[derive(Debug, Deserialize)]
struct Object {
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default = "nothing")]
    spec: Value,
    #[serde(default = "nothing")]
    status: Value,
    #[serde(default)]
    items: Vec<Value>,
}

fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Metadata {
    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    fn inject(&self) -> Option<bool> {
        self.annotations.get(mesh_api::names::INJECT).map(|value| value == "enabled")
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    service_account_name: Option<String>,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    image: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Env>,
    #[serde(default)]
    ports: Vec<Port>,
    readiness_probe: Option<Probe>,
}

#[derive(Debug, Deserialize)]
struct Env {
    name: String,
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    container_port: u16,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    http_get: Option<HttpGet>,
}

#[derive(Debug, Deserialize)]
struct HttpGet {
    path: String,
}

#[derive(Debug, Deserialize)]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
}

#[cfg(test)]
mod tests;
