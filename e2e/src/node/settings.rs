//! What each component is told: its arguments, and the files that it reads. Pure but for `write`.

use super::{Node, boot::Program, cgroup, has_ipv6};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{fs, net::Ipv4Addr};

/// Addresses of Services, of the cluster's DNS among them, and of Pods; of IPv4 and of IPv6.
const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
const DNS: &str = "10.96.0.10";
const PODS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/56"];
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// The cluster's DNS, as objects to apply.
pub const COREDNS: &str = include_str!("coredns.yaml");

/// Writes all files and makes all folders that components are pointed to.
pub fn write(node: &Node) -> Result<()> {
    for dir in ["config", "cni", "kubeconfig", "log/pods", "hold", "kubelet", "etcd"] {
        fs::create_dir_all(node.path(dir)).with_context(|| format!("make {dir}"))?;
    }
    for client in ["admin", "kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        save(node, &format!("kubeconfig/{client}"), &kubeconfig(node, client).to_string())?;
    }
    save(node, "kubeconfig/kubelet", &kubeconfig(node, &node.host()).to_string())?;
    save(node, "config/kubelet", &kubelet_config(node).to_string())?;
    save(node, "config/containerd.toml", &containerd_config(node))?;
    // No name server beyond the cluster's.
    save(node, "config/resolv.conf", "")?;
    save(node, "cni/10-bridge.conflist", &pod_network(node).to_string())
}

/// Of each family that the node has.
fn families<T>(both: [T; 2]) -> Vec<T> {
    both.into_iter().take(if has_ipv6() { 2 } else { 1 }).collect()
}

fn save(node: &Node, file: &str, text: &str) -> Result<()> {
    fs::write(node.path(file), text).with_context(|| format!("write {file}"))
}

fn kubeconfig(node: &Node, client: &str) -> Value {
    let first = node.first();
    let file = |name: &str| first.path("pki").join(name);
    let api = if node.is_first() { Ipv4Addr::LOCALHOST } else { first.address() };
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": node.name(),
        "contexts": [{ "name": node.name(), "context": { "cluster": node.name(), "user": client } }],
        "clusters": [{
            "name": node.name(),
            "cluster": { "server": format!("https://{api}:6443"), "certificate-authority": file("ca.crt") },
        }],
        "users": [{
            "name": client,
            "user": {
                "client-certificate": file(&format!("{client}.crt")),
                "client-key": file(&format!("{client}.key")),
            },
        }],
    })
}

/// Pods hang on a bridge; `portmap` gives them ports of the node that they ask for.
fn pod_network(node: &Node) -> Value {
    let ranges: Vec<_> = families(node.pods()).iter().map(|net| json!([{ "subnet": net }])).collect();
    let routes: Vec<_> = families(EVERYWHERE).iter().map(|net| json!({ "dst": net })).collect();
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": ranges,
                    "routes": routes,
                    "dataDir": "/run/cni",
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

fn containerd_config(node: &Node) -> String {
    let root = node.path("containerd");
    let cni = node.path("cni");
    // A container's score for the out-of-memory killer may not be better than that of whoever starts it, who is not always root
    // of the machine.
    format!(
        r#"version = 2
root = "{}"
state = "/run/containerd"

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "docker.io/library/pause:1"
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{}"
"#,
        root.display(),
        cni.display()
    )
}

fn kubelet_config(node: &Node) -> Value {
    let (first, host) = (node.first(), node.host());
    let pki = |name: &str| first.path("pki").join(name);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": pki("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup::name(node),
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        // A full disk of the machine is not this node's to clean up.
        "evictionHard": {
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "failSwapOn": false,
        "maxPods": 250,
        "podLogsDir": node.path("log/pods"),
        "resolvConf": node.path("config/resolv.conf"),
        "serializeImagePulls": false,
        "syncFrequency": "5s",
        "tlsCertFile": pki(&format!("{host}.crt")),
        "tlsPrivateKeyFile": pki(&format!("{host}.key")),
        "volumePluginDir": node.path("kubelet/plugins"),
    })
}

pub fn etcd(node: &Node) -> Program {
    let (client, peer) = ("http://127.0.0.1:2379", "http://127.0.0.1:2380");
    program()
        .path("data-dir", node, "etcd")
        .flag("listen-client-urls", client)
        .flag("advertise-client-urls", client)
        .flag("listen-peer-urls", peer)
        .flag("initial-advertise-peer-urls", peer)
        .flag("initial-cluster", format!("default={peer}"))
        .flag("log-level", "warn")
        // Nobody wants this data back after a power cut.
        .flag("unsafe-no-fsync", "true")
}

pub fn containerd(node: &Node) -> Program {
    program().path("config", node, "config/containerd.toml")
}

pub fn apiserver(node: &Node) -> Program {
    program()
        .flag("etcd-servers", "http://127.0.0.1:2379")
        .flag("advertise-address", node.address().to_string())
        .flag("secure-port", "6443")
        .flag("service-cluster-ip-range", families(SERVICES).join(","))
        .flag("authorization-mode", "Node,RBAC")
        .flag("enable-admission-plugins", "NodeRestriction")
        .flag("allow-privileged", "true")
        .path("client-ca-file", node, "pki/ca.crt")
        .path("tls-cert-file", node, "pki/kube-apiserver.crt")
        .path("tls-private-key-file", node, "pki/kube-apiserver.key")
        .path("kubelet-certificate-authority", node, "pki/ca.crt")
        .path("kubelet-client-certificate", node, "pki/apiserver-kubelet-client.crt")
        .path("kubelet-client-key", node, "pki/apiserver-kubelet-client.key")
        .flag("kubelet-preferred-address-types", "InternalIP")
        .flag("service-account-issuer", "https://kubernetes.default.svc.cluster.local")
        .path("service-account-key-file", node, "pki/service-account.pub")
        .path("service-account-signing-key-file", node, "pki/service-account.key")
        .path("requestheader-client-ca-file", node, "pki/ca.crt")
        .flag("requestheader-allowed-names", "front-proxy-client")
        .flag("requestheader-username-headers", "X-Remote-User")
        .flag("requestheader-group-headers", "X-Remote-Group")
        .flag("requestheader-extra-headers-prefix", "X-Remote-Extra-")
        .path("proxy-client-cert-file", node, "pki/front-proxy-client.crt")
        .path("proxy-client-key-file", node, "pki/front-proxy-client.key")
}

pub fn controller_manager(node: &Node) -> Program {
    // What is alike in all addresses of a node's Pods. With one family it insists on another name.
    let own = match has_ipv6() {
        false => program().flag("node-cidr-mask-size", "20"),
        true => program().flag("node-cidr-mask-size-ipv4", "20").flag("node-cidr-mask-size-ipv6", "64"),
    };
    own.path("kubeconfig", node, "kubeconfig/kube-controller-manager")
        .flag("leader-elect", "false")
        .flag("allocate-node-cidrs", "true")
        .flag("cluster-cidr", families(PODS).join(","))
        // An API server that comes back finds its node silent for as long as it was away, and after 50 s Kubernetes withdraws all
        // endpoints of such a node: stories are about what the mesh does.
        .flag("node-monitor-grace-period", "5m")
        .flag("use-service-account-credentials", "true")
        .path("service-account-private-key-file", node, "pki/service-account.key")
        .path("root-ca-file", node, "pki/ca.crt")
        .path("cluster-signing-cert-file", node, "pki/ca.crt")
        .path("cluster-signing-key-file", node, "pki/ca.key")
}

pub fn scheduler(node: &Node) -> Program {
    program().path("kubeconfig", node, "kubeconfig/kube-scheduler").flag("leader-elect", "false")
}

pub fn kubelet(node: &Node) -> Program {
    let addresses = families([node.address().to_string(), node.address_v6().to_string()]);
    program()
        .path("config", node, "config/kubelet")
        .path("kubeconfig", node, "kubeconfig/kubelet")
        .path("root-dir", node, "kubelet")
        .path("cert-dir", node, "kubelet/pki")
        .flag("hostname-override", node.host())
        .flag("node-ip", addresses.join(","))
}

pub fn proxy(node: &Node) -> Program {
    program()
        .path("kubeconfig", node, "kubeconfig/kube-proxy")
        .flag("hostname-override", node.host())
        .flag("proxy-mode", "iptables")
        .flag("cluster-cidr", families(PODS).join(","))
        // That table is the machine's, not the namespace's.
        .flag("conntrack-max-per-core", "0")
}

fn program() -> Program {
    Program { arguments: vec![] }
}

impl Program {
    fn flag(mut self, name: &str, value: impl AsRef<str>) -> Program {
        self.arguments.push(format!("--{name}={}", value.as_ref()));
        self
    }

    /// A flag whose value is a file of the node.
    fn path(self, name: &str, node: &Node, file: &str) -> Program {
        let path = node.path(file);
        self.flag(name, path.display().to_string())
    }
}
