//! The operator's HTTP side: JSON under `/api/v1`, live by server-sent events, and the dashboard.
//! Read-only. What the answers look like is written in `mesh-api`; how they are computed, in the modules below.

mod app;
mod assets;
mod checks;
mod directory;
mod flows;
mod graph;
mod guard;
mod identities;
mod login;
mod mesh;
mod overview;
mod reason;
mod refusal;
mod routes;
mod series;
mod served;
mod sight;
mod stream;
mod tally;
mod traces;
mod view;
mod workloads;

pub use assets::Dashboard;
pub use login::Login;

use crate::{ca::Authority, grpc::Streams, listen, rate::Peer, telemetry::Store};
use app::App;
use axum::{
    Extension, Json, Router,
    extract::{Query, Request, State as Shared},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use guard::Hosts;
use http::{HeaderMap, HeaderValue, Uri, header};
use mesh_policy::Tables;
use refusal::Refusal;
use std::{io, sync::Arc};
use stream::Hub;
use tokio::{net::TcpListener, sync::watch};
use view::View;

/// Everything that the API reads.
#[derive(Debug)]
pub struct State {
    pub tables: watch::Receiver<Arc<Tables>>,
    pub telemetry: Arc<Store>,
    pub streams: Arc<Streams>,
    /// Whose certificates proxies have.
    pub authority: watch::Receiver<Arc<Authority>>,
    pub login: Login,
    pub config: Config,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub version: String,
    /// What this mesh is called: `standalone`, or the cluster's name.
    pub cluster: String,
    pub dashboard: Dashboard,
    /// `--dashboard-allowed-host`: names beside loopback under which browsers may ask.
    pub allowed_hosts: Vec<String>,
    /// Where root and issuer are kept, as `namespace/name` of a Secret; `None` in standalone mode.
    pub identity_secret: Option<String>,
    /// Unix time of the operator's start.
    pub started_ms: u64,
}

/// Serves until it is dropped, and drops every connection with itself.
pub async fn serve(listener: TcpListener, state: State) -> io::Result<()> {
    let hosts =
        Hosts { listen: Some(listener.local_addr()?.ip()), allowed: state.config.allowed_hosts.clone() };
    listen::serve(listener, router(hosts, state)).await
}

fn router(hosts: Hosts, state: State) -> Router {
    let hub = Arc::new(Hub::new(Arc::new(App::new(state))));
    Router::new()
        .fallback(answer)
        .with_state(hub)
        .layer(middleware::from_fn_with_state(Arc::new(hosts), guarded))
}

/// Around every request: refused before anything is read of it, protected whatever the answer.
async fn guarded(Shared(hosts): Shared<Arc<Hosts>>, request: Request, next: Next) -> Response {
    let checked = guard::check(&hosts, request.method(), request.uri().path(), request.headers());
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let mut response = refusal.into_response();
            if response.status() == http::StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            response
        }
    };
    if response.status() == http::StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    guard::protect(response.headers_mut());
    response
}

async fn answer(
    Shared(hub): Shared<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let path = uri.path();
    if path == "/api" || path.starts_with("/api/") {
        return api(hub, &uri, &headers, peer).await.unwrap_or_else(IntoResponse::into_response);
    }
    hub.dashboard().serve(path, &headers).await
}

async fn api(hub: Arc<Hub>, uri: &Uri, headers: &HeaderMap, peer: Peer) -> Result<Response, Refusal> {
    let path = uri.path();
    let Some(path) = path.strip_prefix("/api/v1/") else {
        return Err(Refusal::not_found("the API is at /api/v1"));
    };
    view::check_length(uri.query())?;
    let seen = hub.app().seen(headers, peer).await?;
    if let Some((namespace, name)) = path.strip_prefix("identities/").and_then(|pod| pod.split_once('/')) {
        seen.sight.check(namespace)?;
        let served = hub.app().served(namespace, name).await?;
        return Ok(Json(served).into_response());
    }
    let Query(query) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| Refusal::bad_request(format!("the query cannot be read: {error}")))?;
    if let Some(path) = path.strip_suffix("/stream") {
        return hub.stream(View::parse(path, query)?, seen).await;
    }
    let answer = stream::answer(hub.app(), View::parse(path, query)?, seen.sight).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer.json()).into_response())
}

#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod tests;
