//! Opens the ports at which others ask us, and answers plain HTTP there.

use crate::{
    held::{Held, Place},
    rate::Peer,
};
use anyhow::Context;
use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time,
};

/// Connections to a port; more wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// Of these, one host's: anybody may knock here.
const CONNECTIONS_PER_HOST: u32 = 128;
/// A request's head has to be there this soon after its connection, or after the answer before it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 32 << 10;
/// After a failed accept. Out of file descriptors, most likely: that passes, and a busy loop would not help.
const REST: Duration = Duration::from_millis(100);

/// `[::]` is every address of both families; where there is no IPv6, of IPv4.
pub async fn listen(addr: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let mut listening = TcpListener::bind(addr).await;
    if listening.is_err() && addr.is_ipv6() && addr.ip().is_unspecified() {
        listening = TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await;
    }
    listening.with_context(|| {
        format!("listening on {addr} (is another operator running? choose another with {flag})")
    })
}

/// The next connection, and its place among those that its host may have. What a host has too many of is closed.
pub async fn accept(listener: &TcpListener, held: &Arc<Held<Peer>>) -> (TcpStream, SocketAddr, Place<Peer>) {
    loop {
        let (connection, addr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                time::sleep(REST).await;
                continue;
            }
        };
        // An IPv4 caller of a listener for both families is the same caller.
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        match held.take(Peer::at(addr)) {
            Some(place) => return (connection, addr, place),
            None => tracing::debug!(%addr, "one host has too many connections: this one is closed"),
        }
    }
}

/// Serves HTTP/1.1 until it is dropped, and drops every connection with itself. Each request carries its `Peer`.
pub async fn serve(listener: TcpListener, routes: Router) -> io::Result<()> {
    let service = TowerToHyperService::new(routes);
    let (slots, held) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Held::new(CONNECTIONS_PER_HOST));
    let mut connections = JoinSet::new();
    loop {
        let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (connection, addr, place) = accept(&listener, &held).await;
        while connections.try_join_next().is_some() {}
        let (service, peer) = (service.clone(), Peer::at(addr));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            service.call(request)
        });
        connections.spawn(async move {
            let _held = (slot, place);
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
            if let Err(error) = http.serve_connection(TokioIo::new(connection), service).await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What comes from this machine counts one by one.
    #[tokio::test]
    async fn who_says_nothing_holds_up_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Router::new().route("/", axum::routing::get(async || "here"))));
        let mut silent = vec![];
        for _ in 0..2 * CONNECTIONS_PER_HOST {
            silent.push(TcpStream::connect(addr).await.unwrap());
        }
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("here"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_says_whose_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let peer = async |axum::Extension(peer): axum::Extension<Peer>| format!("{peer:?}");
        tokio::spawn(serve(listener, Router::new().route("/", axum::routing::get(peer))));
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let own = format!("{:?}", Peer::Connection(client.local_addr().unwrap()));
        assert!(answer.ends_with(&own), "{answer}");
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        let listener = listen("[::]:0".parse().unwrap(), "--addr").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for ip in ["127.0.0.1", "::1"] {
            let _client = TcpStream::connect((ip, port)).await.unwrap();
            let (_, from) = listener.accept().await.unwrap();
            assert_eq!(from.ip().to_canonical().to_string(), ip);
        }
        let taken = listen(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), "--addr").await;
        assert!(format!("{:#}", taken.unwrap_err()).contains("--addr"));
    }
}
