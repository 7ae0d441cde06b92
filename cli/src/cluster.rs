//! A cluster's API server, found as kubectl finds it. What goes wrong is said in a sentence.

mod credential;
mod http_proxy;
pub mod kubeconfig;
mod object;
mod operator;

pub use object::{Applied, subject};
pub use operator::Operator;

use crate::arguments::ClusterOptions;
use anyhow::{Context, anyhow, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, Config, config::KubeConfigOptions};
use std::{env, fmt, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// A server that has not accepted a connection by then is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// Every single answer comes within this time.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    config: Arc<Config>,
    /// What the kubeconfig calls it.
    context: Option<String>,
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.config.cluster_url)?;
        match &self.context {
            Some(context) => write!(f, " (context {context})"),
            None => Ok(()),
        }
    }
}

impl Cluster {
    /// Reads the configuration and checks nothing: the first request says whether somebody is there.
    pub async fn find(options: &ClusterOptions) -> anyhow::Result<Cluster> {
        let context = options.context.as_deref();
        let mut config = match (kubeconfig::read(options.kubeconfig.as_deref())?, context) {
            (Some(found), None) if found.current_context.as_deref().unwrap_or_default().is_empty() => {
                bail!("the kubeconfig has no current context: name one with --context")
            }
            (Some(found), _) => {
                let meant = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
                let mut config = Config::from_custom_kubeconfig(found.clone(), &meant).await?;
                // Kube holds NO_PROXY against the proxy instead of the server.
                let server = &config.cluster_url;
                config.proxy_url = http_proxy::find(&found, context, server, |name| env::var(name).ok())?;
                config
            }
            (None, Some(context)) => {
                bail!("there is no kubeconfig to have a context {context} (try --kubeconfig)")
            }
            (None, None) => Config::incluster().map_err(|e| {
                anyhow!("no cluster is configured (kubectl would not find one either; try --kubeconfig): {e}")
            })?,
        };
        config.connect_timeout = Some(CONNECT);
        let client = Client::try_from(config.clone()).context("the kubeconfig")?;
        Ok(Cluster { client, config: Arc::new(config), context: options.context.clone() })
    }

    /// Which namespace the kubeconfig's context means where none is named.
    pub fn namespace(&self) -> &str {
        &self.config.default_namespace
    }

    /// A connection to a port of a Pod, as `kubectl port-forward` makes it. Ends when it is dropped.
    pub async fn forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> anyhow::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static + use<>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let mut forwarded = self.ask(pods.portforward(pod, &[port])).await?;
        forwarded
            .take_stream(port)
            .with_context(|| format!("port {port} of Pod {namespace}/{pod} was not forwarded"))
    }

    /// The answer of one request, within a deadline.
    pub async fn ask<T>(&self, request: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
        match tokio::time::timeout(PATIENCE, request).await {
            Ok(answer) => answer.map_err(sentence),
            Err(_) => Err(anyhow!("the API server did not answer within {} s", PATIENCE.as_secs())),
        }
    }
}

/// `None` where the API server says that there is no such thing.
pub fn found<T>(answer: kube::Result<T>) -> kube::Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(e) => Err(e),
    }
}

/// What the API server answered, or why it could not.
fn sentence(e: kube::Error) -> anyhow::Error {
    if let kube::Error::Api(status) = &e {
        let said = format!("the API server says: {}", status.message);
        return if status.code == 403 { Forbidden(said).into() } else { anyhow!(said) };
    }
    anyhow!("cannot ask the API server: {}", cause(&e))
}

/// What the API server keeps from this user.
#[derive(Debug)]
struct Forbidden(String);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Forbidden {}

pub fn is_forbidden(e: &anyhow::Error) -> bool {
    e.downcast_ref::<Forbidden>().is_some()
}

/// What is at the bottom of an error: the layers above it repeat each other.
pub fn cause(e: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = e;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
