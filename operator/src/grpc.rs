//! What proxies ask, over gRPC (linkerd2-proxy-api 0.20): who they are, where requests may go, who may call. Answers are computed
//! by `mesh_policy` from the current tables; here they are shared among those who ask the same, encoded, and sent again when they change.

mod admission;
mod destination;
mod door;
mod encode;
mod identity;
mod inbound;
mod method;
mod outbound;
mod refusal;
mod replay;
mod stream;
mod topics;
mod workload;

pub use admission::Streams;
pub(crate) use door::handshakes;
pub use door::{Caller, Door};
pub use identity::Certifier;
pub use refusal::Certificates;

use crate::{accounts::Accounts, ca::Authority};
use linkerd2_proxy_api::identity::identity_server::IdentityServer;
use mesh_policy::Tables;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time};
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use topics::Topics;

/// A peer that says nothing is asked whether it lives, and cut when it does not answer: so ends, within ten seconds, a subscriber that
/// vanished without a word or reads no more.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Headers of all requests on a connection that are not yet answered.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// When we stop, streams end at once; a connection that lingers is dropped after this.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(2);

/// Knows whether proxies have been told where requests may go.
#[derive(Clone)]
pub struct Told(Topics<outbound::Outbound>);

impl Told {
    /// Whether each proxy that is connected to this replica has taken what follows from the newest tables.
    pub fn is_everybody(&self) -> bool {
        self.0.have_all()
    }

    #[cfg(test)]
    pub fn nobody(tables: watch::Receiver<Arc<Tables>>) -> Told {
        Told(Topics::new(tables, Arc::default(), watch::channel(false).1))
    }
}

/// The four services on current tables.
pub fn services(
    tables: watch::Receiver<Arc<Tables>>,
    authority: watch::Receiver<Arc<Authority>>,
    accounts: Accounts,
    asked_for: Arc<Certificates>,
    streams: Arc<Streams>,
    stop: watch::Receiver<bool>,
) -> (Routes, Told) {
    let settings = tables.borrow().settings().clone();
    let certifier = Certifier::new(authority, accounts, settings.identities(), asked_for);
    let endpoints = Topics::new(tables.clone(), streams.clone(), stop.clone());
    let profiles = Topics::new(tables.clone(), streams.clone(), stop.clone());
    let outbound = Topics::new(tables.clone(), streams.clone(), stop.clone());
    let inbound = Topics::new(tables, streams, stop);
    let told = Told(outbound.clone());
    let routes = Routes::new(IdentityServer::new(certifier))
        .into_axum_router()
        .merge(destination::routes(endpoints, profiles))
        .merge(outbound::routes(outbound))
        .merge(inbound::routes(inbound));
    (routes.into(), told)
}

/// Serves until `stop` is true, then lets what is under way end.
pub async fn serve(
    door: Door,
    routes: Routes,
    stop: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(admission::MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES);
    let stopped = stopped(stop.clone());
    let serving = async {
        match door {
            Door::Plain(listener) => {
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                { server }.add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await
            }
            Door::Tls(listener, config) => {
                let incoming = door::handshakes(listener, config);
                let routes = door::guarded(routes);
                { server }.add_routes(routes).serve_with_incoming_shutdown(incoming, stopped).await
            }
        }
    };
    tokio::select! {
        served = serving => served,
        () = async { self::stopped(stop).await; time::sleep(SHUTDOWN_DEADLINE).await } => Ok(()),
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that whoever could stop us is gone: the same as being stopped.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
