//! What the API server asks before it stores an object: whether a new Pod gets a proxy (`inject`), how a Namespace is labelled
//! (`label`), and what is odd about a route or policy (`validate`). HTTPS, answered from what is in memory; nobody is ever kept waiting for the API server's own sake.

mod inject;
mod label;
mod room;
mod validate;

pub use inject::Injector;

use super::maps::Maps;
use crate::{grpc::handshakes, world::stores::Readers};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::StreamExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    api::DynamicObject,
    core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview},
    runtime::reflector::ObjectRef,
};
use mesh_charts::inject::Patch;
use mesh_policy::{Settings, Tables, namespaces::is_meshed};
use room::Room;
use rustls::ServerConfig;
use serde::Deserialize;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time};

/// How far our watches may be behind the API server.
const NEWS: Duration = Duration::from_secs(1);
/// The API server sends a request whole.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// An API server asks over one or a few.
const CONNECTIONS_PER_HOST: u32 = 64;
/// What a connection's requests may send before it is read, and how many there may be.
const WINDOW_BYTES: u32 = 256 << 10;
const MAX_STREAMS: u32 = 250;

type Request = AdmissionRequest<DynamicObject>;

/// Whose word it is that a Pod may be meshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Why {
    Namespace,
    Pod,
}

pub struct Webhook {
    pub readers: Readers,
    pub maps: Maps,
    pub settings: Settings,
    /// Changes after the readers have changed.
    pub tables: watch::Receiver<Arc<Tables>>,
    /// `None`: Pods stay as they are.
    pub injector: Option<Injector>,
}

impl Webhook {
    /// A Namespace as we have it. Our watch may be behind: when we are asked because of the Namespace's label, its annotation is
    /// there, and we see it in a moment.
    async fn namespace(&self, name: &str, why: Why) -> Option<Arc<Namespace>> {
        let known = || self.readers.namespaces.get(&ObjectRef::new(name));
        let is_news = |namespace: &Namespace| why == Why::Pod || is_meshed(namespace);
        let mut tables = self.tables.clone();
        let seen = async {
            loop {
                tables.borrow_and_update();
                if known().is_some_and(|namespace| is_news(&namespace)) || tables.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = time::timeout(NEWS, seen).await;
        known()
    }
}

/// Serves until it is dropped. Once we are `leaving`, the API server is sent to another replica: connections are closed as their
/// requests are answered.
pub async fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    webhook: Webhook,
    leaving: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router(webhook));
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    http.http2()
        .timer(TokioTimer::new())
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS);
    let mut incoming = pin!(handshakes(listener, tls, CONNECTIONS_PER_HOST));
    let mut connections = JoinSet::new();
    while let Some(Ok(connection)) = incoming.next().await {
        while connections.try_join_next().is_some() {}
        let (http, service, mut leaving) = (http.clone(), service.clone(), leaving.clone());
        // Who comes nevertheless is answered.
        let left = *leaving.borrow_and_update();
        connections.spawn(async move {
            let mut served = pin!(http.serve_connection(TokioIo::new(connection), service));
            let ended = tokio::select! {
                ended = &mut served => ended,
                () = async { drop(leaving.wait_for(|leaving| *leaving).await) }, if !left => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error, "a connection of the API server ended early");
            }
        });
    }
}

fn router(webhook: Webhook) -> Router {
    Router::new()
        .route("/inject/{why}", post(inject))
        .route("/label", post(label))
        .route("/validate", post(validate))
        .with_state(Arc::new(webhook))
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Room::default(), room::within))
}

async fn inject(
    State(webhook): State<Arc<Webhook>>,
    Path(why): Path<Why>,
    review: Json<AdmissionReview<DynamicObject>>,
) -> Response {
    let namespace = match review.0.request.as_ref().and_then(|request| request.namespace.as_deref()) {
        Some(name) => {
            if why == Why::Namespace {
                // Without a trust bundle kubelet would not start the Pod, and look again only after a while.
                webhook.maps.wait_for(name, NEWS).await;
            }
            webhook.namespace(name, why).await
        }
        None => None,
    };
    answer(review, |request| match (&webhook.injector, &namespace) {
        (Some(injector), Some(namespace)) => injector.answer(request, namespace),
        _ => AdmissionResponse::from(request),
    })
}

async fn label(review: Json<AdmissionReview<DynamicObject>>) -> Response {
    answer(review, label::answer)
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
    // The version of the review goes with it: the answer must say the same one.
    let Ok(request) = review.try_into() else {
        return (StatusCode::BAD_REQUEST, "the review has no request").into_response();
    };
    Json(decide(&request).into_review()).into_response()
}

/// Lets an object in, changed so; never refuses it.
fn patched(request: &Request, patch: Patch) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    match patch.0.is_empty() {
        true => response,
        false => response.with_patch(patch).unwrap_or_else(|_| AdmissionResponse::from(request)),
    }
}

#[cfg(test)]
mod tests;
