//! Which Kubernetes a Pod meets: the oldest of the API server's and all nodes'. Nodes may be three versions behind their API server,
//! and while a cluster is being upgraded they are behind it.

use anyhow::Context;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::ListParams};
use mesh_charts::kubernetes::minor;

/// A Node has tens of kilobytes: so many are read at a time.
const PAGE: u32 = 100;

/// Its minor version.
pub async fn oldest(client: &Client) -> anyhow::Result<u32> {
    let version = client.apiserver_version().await.context("asking for the API server's version")?;
    let version = format!("{}.{}", version.major, version.minor);
    let mut oldest = minor(&version).with_context(|| format!("the API server's version is {version:?}"))?;
    let (nodes, mut page) = (Api::<Node>::all(client.clone()), ListParams::default().limit(PAGE));
    loop {
        let read = nodes.list(&page).await.context("asking for the nodes' versions")?;
        for node in &read.items {
            match kubelet(node) {
                Some(minor) => oldest = oldest.min(minor),
                None => tracing::warn!(node = node.metadata.name, "a node does not say its version"),
            }
        }
        match read.metadata.continue_ {
            Some(next) if !next.is_empty() => page = page.continue_token(&next),
            _ => return Ok(oldest),
        }
    }
}

fn kubelet(node: &Node) -> Option<u32> {
    minor(&node.status.as_ref()?.node_info.as_ref()?.kubelet_version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::ApiServer;
    use serde_json::json;

    async fn of(api_server: &str, kubelets: &[&str]) -> anyhow::Result<u32> {
        let server = ApiServer::new(&["/api/v1/nodes"]);
        server.version(api_server);
        for (name, version) in kubelets.iter().enumerate() {
            let info = json!({
                "kubeletVersion": version, "architecture": "", "bootID": "", "containerRuntimeVersion": "",
                "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "",
                "osImage": "", "systemUUID": "",
            });
            let node = json!({ "metadata": { "name": format!("n{name}") }, "status": { "nodeInfo": info } });
            server.put("/api/v1/nodes", node);
        }
        oldest(&server.client()).await
    }

    #[tokio::test]
    async fn the_oldest_counts_be_it_api_server_or_node() {
        assert_eq!(of("34+", &["v1.34.4", "v1.33.0"]).await.unwrap(), 33);
        assert_eq!(of("29", &["v1.29.1", "v1.28.15-eks-1a2b3c", "v1.29.1"]).await.unwrap(), 28);
        assert_eq!(of("28", &["v1.28.15"]).await.unwrap(), 28);
        assert_eq!(of("30", &[]).await.unwrap(), 30, "no node is there yet");
        assert_eq!(of("30", &["v1.30.1", "somebody's own"]).await.unwrap(), 30);
    }

    #[tokio::test]
    async fn a_page_is_not_all_nodes() {
        let kubelets: Vec<&str> = (0..250).map(|n| if n == 249 { "v1.28.0" } else { "v1.31.0" }).collect();
        assert_eq!(of("31", &kubelets).await.unwrap(), 28);
    }

    #[tokio::test]
    async fn an_api_server_without_a_version_is_no_guess() {
        let error = of("", &[]).await.unwrap_err();
        assert_eq!(error.to_string(), "the API server's version is \"1.\"");
    }
}
