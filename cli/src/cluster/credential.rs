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
    client::{Body, ConfigExt},
};
use mesh_api::names;
use std::{
    pin::Pin,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;
use tower::{BoxError, Layer, ServiceExt, service_fn};

/// The shortest that the API server gives …
const LIFE: Duration = Duration::from_secs(600);
/// … and after this long we ask again.
const FRESH: Duration = Duration::from_secs(300);

pub struct Credential {
    cluster: Cluster,
    namespace: String,
    made: Mutex<Option<(HeaderValue, Instant)>>,
}

impl Credential {
    pub fn new(cluster: Cluster, namespace: &str) -> Credential {
        Credential { cluster, namespace: namespace.to_owned(), made: Mutex::default() }
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
        let Some(layer) = self.cluster.config.auth_layer()? else { return Ok(None) };
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
