//! The operator on a cluster: reached by a port-forward to its Pod, so that nothing of it has to be exposed, and what is said
//! travels inside the API server's TLS and the kubelet's.

use super::{Cluster, credential::Credential};
use anyhow::{Context, anyhow};
use hyper::header::HeaderValue;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, api::ListParams};
use mesh_api::names;
use std::{fmt, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};

#[derive(Clone)]
pub struct Operator {
    cluster: Cluster,
    namespace: String,
    credential: Arc<Credential>,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the operator in namespace {} of {}", self.namespace, self.cluster)
    }
}

impl Operator {
    pub fn new(cluster: Cluster, namespace: &str) -> Operator {
        let credential = Arc::new(Credential::new(cluster.clone(), namespace));
        Operator { cluster, namespace: namespace.to_owned(), credential }
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// By which the operator knows who asks.
    pub async fn authorization(&self) -> anyhow::Result<HeaderValue> {
        self.credential.authorization().await
    }

    /// A connection to the operator's API.
    pub async fn connect(
        &self,
    ) -> anyhow::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static + use<>> {
        let pod = self.pod().await?;
        self.cluster
            .forward(&self.namespace, &pod, names::OPERATOR_HTTP_PORT)
            .await
            .with_context(|| format!("reaching {self}"))
    }

    /// Of several replicas the one that leads: proxies report to it. Who may not read the Lease gets any.
    async fn pod(&self) -> anyhow::Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        let labels = ListParams::default().labels(names::OPERATOR_LABELS);
        let pods =
            self.cluster.ask(pods.list(&labels)).await.with_context(|| format!("looking for {self}"))?;
        let ready: Vec<&str> =
            pods.iter().filter(|pod| is_ready(pod)).filter_map(|pod| pod.metadata.name.as_deref()).collect();
        let Some(first) = ready.first() else {
            return Err(match pods.items.len() {
                0 => anyhow!(
                    "no mesh in namespace {} of {}: install it with `mesh install`, or name its namespace with --mesh-namespace",
                    self.namespace,
                    self.cluster
                ),
                count => anyhow!("{self} is not ready ({count} Pods): `mesh check` says why"),
            });
        };
        let leases: Api<Lease> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        let lease =
            if ready.len() > 1 { self.cluster.ask(leases.get(names::OPERATOR)).await.ok() } else { None };
        let leader = lease.and_then(|lease| lease.spec?.holder_identity);
        let led = leader.filter(|leader| ready.contains(&leader.as_str()));
        Ok(led.unwrap_or_else(|| (*first).to_owned()))
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready =
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}
