//! Which operator a command asks, and which cluster. Looked for when it is needed, since many commands need neither.

use crate::{
    api::Client,
    arguments::ClusterOptions,
    cluster::{Cluster, Operator, kubeconfig},
};
use anyhow::anyhow;
use mesh_api::names;

pub struct Reach {
    /// `--operator`
    pub operator: Option<String>,
    pub options: ClusterOptions,
}

impl Reach {
    pub async fn cluster(&self) -> anyhow::Result<Cluster> {
        Cluster::find(&self.options).await
    }

    /// The operator that is named, else that of the cluster that is named, else `mesh demo`'s, else that of the cluster that
    /// kubectl would ask.
    pub async fn operator(&self) -> anyhow::Result<Client> {
        if let Some(url) = &self.operator {
            return Client::new(url);
        }
        let demo = Client::new(&format!("http://127.0.0.1:{}", names::OPERATOR_HTTP_PORT))?;
        if !self.options.names_one() && demo.answers("/api/v1/version").await {
            let other = kubeconfig::read(None).ok().flatten();
            if other.is_some_and(|config| config.current_context.is_some()) {
                eprintln!("mesh: asking `mesh demo` at {}; --context NAME asks a cluster", demo.base);
            }
            return Ok(demo);
        }
        let cluster = self.cluster().await.map_err(|e| match self.options.names_one() {
            true => e,
            false => anyhow!("no operator: `mesh demo` does not run at {}, and {e:#}", demo.base),
        })?;
        Ok(Client::on_cluster(Operator::new(cluster, self.options.mesh_namespace())))
    }
}
