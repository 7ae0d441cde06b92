//! What a user shows the operator: the token that the kubeconfig has for the API server, from wherever it comes; who has none but
//! a client certificate, which cannot be passed on, shows a short-lived token that the API server makes for a viewer of the mesh.

use super::{Cluster, found};
use anyhow::{Context, anyhow};
use hyper::{
    Request, Response,
    header::{AUTHORIZATION, HeaderValue},
};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api,
    api::PostParams,
    client::{Body, ConfigExt, middleware::AuthLayer},
};
use mesh_api::names;
use std::{
    pin::Pin,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Mutex, OnceCell},
    task::spawn_blocking,
};
use tower::{BoxError, Layer, ServiceExt, service_fn};

/// The shortest that the API server gives …
const LIFE: Duration = Duration::from_secs(600);
/// … and after this long we ask again.
const FRESH: Duration = Duration::from_secs(300);

pub struct Credential {
    cluster: Cluster,
    namespace: String,
    /// Where the kubeconfig's token comes from, if it has one. Made once: that may run a program, or ask a person.
    own: OnceCell<Option<AuthLayer>>,
    made: Mutex<Option<(HeaderValue, Instant)>>,
}

impl Credential {
    pub fn new(cluster: Cluster, namespace: &str) -> Credential {
        Credential { cluster, namespace: namespace.to_owned(), own: OnceCell::new(), made: Mutex::default() }
    }

    pub async fn authorization(&self) -> anyhow::Result<HeaderValue> {
        if let Some(own) = self.own().await.context("the kubeconfig's token")? {
            return Ok(own);
        }
        // Others wait for the one who asks; each request of theirs has a deadline.
        let mut made = self.made.lock().await;
        if let Some((header, at)) = &*made
            && at.elapsed() < FRESH
        {
            return Ok(header.clone());
        }
        let header = self.make().await?;
        *made = Some((header.clone(), Instant::now()));
        Ok(header)
    }

    /// What a request to the API server would carry.
    async fn own(&self) -> anyhow::Result<Option<HeaderValue>> {
        let config = self.cluster.config.clone();
        // A program that is run for it is waited for on another thread; the layer runs it again before its token ends.
        let make = || async move { anyhow::Ok(spawn_blocking(move || config.auth_layer()).await??) };
        let Some(layer) = self.own.get_or_try_init(make).await? else { return Ok(None) };
        // Kubeconfigs have many sources of tokens, and kube shows what it got only to who takes the API server's place.
        let shown = layer.layer(service_fn(|request: Request<Body>| async move {
            let mut seen = Response::new(());
            *seen.headers_mut() = request.headers().clone();
            Ok::<_, BoxError>(seen)
        }));
        // Boxed: its type is more than the compiler can prove to be Send.
        let seen: Pin<Box<dyn Future<Output = Result<Response<()>, BoxError>> + Send>> =
            Box::pin(shown.oneshot(Request::new(Body::empty())));
        let seen = seen.await.map_err(|e| anyhow!("{e}"))?;
        let header = seen.headers().get(AUTHORIZATION).cloned();
        Ok(header.filter(|header| header.as_bytes().starts_with(b"Bearer ")))
    }

    async fn make(&self) -> anyhow::Result<HeaderValue> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![names::VIEWER_AUDIENCE.into()],
                expiration_seconds: Some(LIFE.as_secs() as i64),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let params = PostParams::default();
        let answer = async { found(accounts.create_token_request(names::VIEWER, &params, &request).await) };
        let viewer = format!("ServiceAccount {}/{}", self.namespace, names::VIEWER);
        let answer = self.cluster.ask(answer).await.with_context(|| {
            format!("your kubeconfig has no token to show the operator, so it needs one of {viewer}")
        })?;
        let answer = answer.with_context(|| {
            format!(
                "no mesh in namespace {} of {}, as there is no {viewer}: install it with `mesh install`, or name its namespace with --mesh-namespace",
                self.namespace, self.cluster
            )
        })?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        let mut header: HeaderValue = format!("Bearer {token}").parse().context("the token that was made")?;
        header.set_sensitive(true);
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::ClusterOptions;
    use serde_json::json;
    use std::fs;
    use tempfile::TempDir;

    #[tokio::test(flavor = "current_thread")]
    async fn a_program_that_makes_tokens_is_not_run_for_every_request() {
        let dir = TempDir::new().unwrap();
        let (file, runs) = (dir.path().join("config"), dir.path().join("runs"));
        let token = json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": { "token": "t" },
        });
        let program = json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "sh",
            "args": ["-c", "echo >> \"$0\"; echo \"$1\"", runs, token.to_string()],
            "interactiveMode": "Never",
        });
        let config = json!({
            "clusters": [{ "name": "c", "cluster": { "server": "http://127.0.0.1:9" } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
            "users": [{ "name": "u", "user": { "exec": program } }],
            "current-context": "c",
        });
        fs::write(&file, config.to_string()).unwrap();
        let options = ClusterOptions { kubeconfig: Some(file), context: None, mesh_namespace: None };
        let credential = Credential::new(Cluster::find(&options).await.unwrap(), "mesh-system");
        let mut counts = vec![];
        for _ in 0..3 {
            assert_eq!(credential.authorization().await.unwrap(), "Bearer t");
            counts.push(fs::read_to_string(&runs).unwrap().lines().count());
        }
        assert_eq!(counts, [counts[0]; 3]);
    }
}
