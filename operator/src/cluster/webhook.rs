//! What the API server asks before it stores an object: whether a new Pod gets a proxy (`inject`), and what is odd about a route or
//! policy (`validate`). HTTPS, answered from what is in memory; nobody is ever kept waiting for the API server's own sake.

mod inject;
mod validate;

pub use inject::Injector;

use crate::{grpc::handshakes, world::stores::Readers};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::StreamExt;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kube::{
    api::DynamicObject,
    core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview},
};
use mesh_policy::Settings;
use rustls::ServerConfig;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// An object has 1.5 MB at most, and a review may hold two.
const MAX_BYTES: usize = 10 << 20;
/// The API server sends a request whole.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

type Request = AdmissionRequest<DynamicObject>;

pub struct Webhook {
    pub readers: Readers,
    pub settings: Settings,
    /// `None`: Pods stay as they are.
    pub injector: Option<Injector>,
}

/// Serves until `stop`; then connections are closed as they become idle, so that the API server asks another replica.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    webhook: Webhook,
    stop: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router(webhook));
    let mut incoming = pin!(handshakes(listener, tls));
    let mut connections = JoinSet::new();
    while let Some(Ok(connection)) = incoming.next().await {
        while connections.try_join_next().is_some() {}
        let (service, mut stop) = (service.clone(), stop.clone());
        connections.spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            let mut served = pin!(http.serve_connection(TokioIo::new(connection), service));
            let ended = tokio::select! {
                ended = &mut served => ended,
                () = async { drop(stop.wait_for(|stop| *stop).await) } => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection of the API server ended early");
            }
        });
    }
}

fn router(webhook: Webhook) -> Router {
    Router::new()
        .route("/inject", post(inject))
        .route("/validate", post(validate))
        .layer(DefaultBodyLimit::max(MAX_BYTES))
        .with_state(Arc::new(webhook))
}

async fn inject(
    State(webhook): State<Arc<Webhook>>,
    review: Json<AdmissionReview<DynamicObject>>,
) -> Response {
    answer(review, |request| match &webhook.injector {
        Some(injector) => injector.answer(request, &webhook.readers),
        None => AdmissionResponse::from(request),
    })
}

async fn validate(
    State(webhook): State<Arc<Webhook>>,
    review: Json<AdmissionReview<DynamicObject>>,
) -> Response {
    answer(review, |request| validate::answer(request, &webhook.readers, &webhook.settings))
}

fn answer(
    Json(review): Json<AdmissionReview<DynamicObject>>,
    decide: impl FnOnce(&Request) -> AdmissionResponse,
) -> Response {
    let Some(request) = review.request else {
        return (StatusCode::BAD_REQUEST, "the review has no request").into_response();
    };
    Json(decide(&request).into_review()).into_response()
}

#[cfg(test)]
mod tests;
