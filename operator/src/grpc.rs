//! What proxies ask, over gRPC (linkerd2-proxy-api 0.20): who they are, where requests may go, who may call. Answers are computed
//! by `mesh_policy` from the current tables; here they are shared among those who ask the same, encoded, and sent again when they change.

mod admission;
mod connection;
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
pub(crate) use connection::Leave;
pub(crate) use door::handshakes;
pub use door::{Caller, Door};
pub use identity::Certifier;
pub use refusal::Certificates;

use crate::{accounts::Accounts, ca::Authority, standing::Standing};
use axum::Router;
use futures_util::{Stream, StreamExt};
use linkerd2_proxy_api::identity::identity_server::IdentityServer;
use mesh_policy::Tables;
use std::{io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
    time,
};
use tonic::{
    service::Routes,
    transport::server::{Connected, TcpIncoming},
};
use topics::Topics;

/// When we stop, streams end at once; a connection that lingers is dropped after this.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(2);

/// A Pod's proxy has a few; all Pods of a node may come from one address, where the network translates theirs.
const CONNECTIONS_PER_HOST: u32 = 512;

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
) -> (Router, Told) {
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
    (routes, told)
}

/// Serves until `stop` is true, then lets what is under way end.
pub async fn serve(
    door: Door,
    routes: Router,
    standing: watch::Receiver<Standing>,
    stop: watch::Receiver<bool>,
) {
    match door {
        Door::Plain(listener) => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            accept(incoming, routes, standing, stop).await;
        }
        Door::Tls(listener, config) => {
            let incoming = door::handshakes(listener, config, CONNECTIONS_PER_HOST);
            accept(incoming, door::guarded(routes), standing, stop).await;
        }
    }
}

async fn accept<T>(
    incoming: impl Stream<Item = io::Result<T>>,
    routes: Router,
    standing: watch::Receiver<Standing>,
    stop: watch::Receiver<bool>,
) where
    T: Connected + AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut connections = JoinSet::new();
    {
        let mut incoming = pin!(incoming);
        let mut stopped = pin!(stopped(stop.clone()));
        loop {
            tokio::select! {
                () = &mut stopped => break,
                io = incoming.next() => match io {
                    Some(Ok(io)) => {
                        let driven = connection::drive(io, routes.clone(), standing.clone(), stop.clone());
                        connections.spawn(driven);
                    }
                    Some(Err(error)) => tracing::debug!(%error, "a connection was not accepted"),
                    None => break,
                },
                Some(ended) = connections.join_next() => if let Ok(Err(error)) = ended {
                    tracing::debug!(%error, "a proxy's connection broke");
                },
            }
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    // Those that linger are dropped.
    let _ = time::timeout(SHUTDOWN_DEADLINE, ended).await;
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that whoever could stop us is gone: the same as being stopped.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
