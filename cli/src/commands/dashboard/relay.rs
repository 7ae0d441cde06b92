//! Passes a browser's requests on to the operator of a cluster, and its answers back as they come: events stream through.

use super::door::{Door, Verdict};
use crate::api::Client;
use anyhow::Context;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderName},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use mesh_api::stream::ApiError;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// A browser opens six; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Of one connection and not of the message, as RFC 9110, 7.6.1 has it; and what is nobody's but ours.
const NOT_PASSED_ON: [HeaderName; 5] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::COOKIE, header::AUTHORIZATION];

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// Until it is dropped.
pub async fn run(listener: TcpListener, door: Door, api: Client) -> anyhow::Result<()> {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let relay = Arc::new((door, api));
    let mut connections = JoinSet::new();
    loop {
        let slot = slots.clone().acquire_owned().await?;
        let (connection, _) = listener.accept().await.context("accepting a connection")?;
        while connections.try_join_next().is_some() {}
        let relay = relay.clone();
        connections.spawn(async move {
            let _slot = slot;
            let service = service_fn(move |request| {
                let relay = relay.clone();
                async move { Ok::<_, Infallible>(answer(&relay.0, &relay.1, request).await) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            // A browser that hangs up needs no word.
            let _ = http.serve_connection(TokioIo::new(connection), service).await;
        });
    }
}

async fn answer(door: &Door, api: &Client, request: Request<Incoming>) -> Answer {
    match door.check(request.method(), request.uri(), request.headers()) {
        Verdict::Enter => {}
        Verdict::Key { cookie } => return welcome(&cookie),
        Verdict::Refused(status, why) => return refusal(status, why.into()),
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    match api.send(request.method(), path, passed_on(request.headers())).await {
        Ok(mut response) => {
            *response.headers_mut() = passed_on(response.headers());
            response.map(BodyExt::boxed)
        }
        Err(e) => refusal(StatusCode::BAD_GATEWAY, format!("{e:#}")),
    }
}

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in NOT_PASSED_ON {
        headers.remove(name);
    }
    headers
}

fn welcome(cookie: &str) -> Answer {
    let answer = Response::builder()
        .status(StatusCode::SEE_OTHER)
        .header(header::LOCATION, "/")
        .header(header::SET_COOKIE, cookie)
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::REFERRER_POLICY, "no-referrer");
    answer.body(body("")).unwrap_or_else(|e| refusal(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}

fn refusal(status: StatusCode, error: String) -> Answer {
    let json = serde_json::to_string(&ApiError { error }).unwrap_or_default();
    let mut answer = Response::new(body(&json));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

fn body(text: &str) -> BoxBody<Bytes, hyper::Error> {
    Full::from(text.to_owned()).map_err(|never| match never {}).boxed()
}
