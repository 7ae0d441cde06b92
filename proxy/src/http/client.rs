//! Connections to one endpoint, and sending a request on one of them: HTTP/2 multiplexed on as few as its stream limit
//! allows, HTTP/1 on the most recently used that is idle.

use super::{Local, Version, body::RequestBody, error::Kind};
use crate::{
    config::{self, Http2KeepAlive, Tcp},
    identity::Credentials,
    io::{Stream, Transport},
    policy::endpoint::EndpointTls,
    transport_header::{Header, Session},
};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    pin::pin,
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::{Notify, watch},
    task::spawn_local,
    time,
};
use tokio_rustls::TlsConnector;

/// Enough for a fast peer a few milliseconds away; a slow reader can make us hold this much for each of its streams.
pub const H2_STREAM_WINDOW: u32 = 256 * 1_024;
/// Of all streams of a connection: as many bodies as fill it may stand still before they hold up the others.
pub const H2_CONNECTION_WINDOW: u32 = 16 * H2_STREAM_WINDOW;
/// What we keep of a stream's body for a peer that does not read.
pub const H2_SEND_BUFFER: usize = 64 * 1_024;
/// Heads longer than this are refused in both directions.
pub const MAX_HEAD: usize = 64 * 1_024;
/// Idle HTTP/1 connections kept for one endpoint.
const MAX_IDLE: usize = 1_024;
const SWEEP: Duration = Duration::from_secs(5);

/// How connections are made; one per worker and direction.
#[derive(Debug)]
pub struct Connector {
    credentials: watch::Receiver<Option<Arc<Credentials>>>,
    tcp: Tcp,
    timeout: Duration,
    http2: Http2KeepAlive,
    idle: Duration,
    /// Whose idle connections are to be closed in time.
    pools: RefCell<Vec<Weak<Pool>>>,
}

/// Where and how an endpoint is connected to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The application's address.
    pub addr: SocketAddr,
    pub tls: Option<EndpointTls>,
    /// Port of the peer's proxy that takes a transport header. Only with TLS.
    pub transport_port: Option<u16>,
}

#[derive(Debug)]
pub struct Pool {
    pub target: Target,
    connector: Rc<Connector>,
    h1: RefCell<Vec<IdleH1>>,
    h2: RefCell<Vec<Rc<H2>>>,
    /// An HTTP/2 connection is being made; those who need one wait for `opened`.
    opening: Cell<bool>,
    opened: Notify,
    last_error: Cell<Option<Kind>>,
    /// The endpoint is gone: connections are not kept.
    retired: Cell<bool>,
}

#[derive(Debug)]
struct IdleH1 {
    send: http1::SendRequest<RequestBody>,
    since: Instant,
}

#[derive(Debug)]
pub struct H2 {
    send: RefCell<http2::SendRequest<RequestBody>>,
    in_flight: Cell<usize>,
    /// The peer's limit of streams, kept current by the connection's task.
    max: Rc<Cell<usize>>,
    idle_since: Cell<Instant>,
}

/// A connection for as long as its response lasts. Dropping it gives the connection back, or ends it.
#[derive(Debug)]
pub enum Lease {
    H1 { send: Option<http1::SendRequest<RequestBody>>, pool: Rc<Pool>, spoilt: bool },
    H2(Rc<H2>),
}

/// A request that got no answer.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    pub kind: Kind,
    /// The server cannot have seen it: it may be sent elsewhere, whatever it is.
    pub unsent: bool,
    /// The request is back where it was taken from.
    pub returned: bool,
    /// No connection could be made.
    pub connect: bool,
}

impl Connector {
    /// Closes what is idle for too long, for as long as the connector lives.
    pub fn start(
        credentials: watch::Receiver<Option<Arc<Credentials>>>,
        config: &config::Connections,
    ) -> Rc<Connector> {
        let connector = Rc::new(Connector {
            credentials,
            tcp: config.connect,
            timeout: config.connect_timeout,
            http2: config.http2,
            idle: config.pool_idle,
            pools: RefCell::default(),
        });
        let weak = Rc::downgrade(&connector);
        spawn_local(async move {
            loop {
                time::sleep(SWEEP).await;
                let Some(connector) = weak.upgrade() else { return };
                connector.pools.borrow_mut().retain(|pool| match pool.upgrade() {
                    Some(pool) => {
                        pool.close_idle(connector.idle);
                        true
                    }
                    None => false,
                });
            }
        });
        connector
    }

    /// A connection for the bytes of `session`; `None`: bytes of unknown kind.
    pub async fn connect(&self, target: &Target, session: Option<Version>) -> Result<Stream, Kind> {
        match time::timeout(self.timeout, self.establish(target, session)).await {
            Ok(result) => result,
            Err(_) => Err(Kind::ConnectTimeout),
        }
    }

    async fn establish(&self, target: &Target, session: Option<Version>) -> Result<Stream, Kind> {
        let Some(tls) = &target.tls else {
            let tcp = crate::io::connect(target.addr, self.tcp).await.map_err(refused)?;
            return Ok(Transport::Tcp(tcp).into());
        };
        // Never plaintext to an endpoint with an identity, whatever goes wrong here.
        let Some(credentials) = self.credentials.borrow().clone() else { return Err(Kind::NoIdentity) };
        let (port, config) = match target.transport_port {
            Some(port) => (port, &credentials.client_transport),
            None => (target.addr.port(), &credentials.client_plain),
        };
        let tcp =
            crate::io::connect(SocketAddr::new(target.addr.ip(), port), self.tcp).await.map_err(refused)?;
        let mut stream = handshake(tcp, tls, config.clone()).await?;
        if target.transport_port.is_some() {
            if stream.get_ref().1.alpn_protocol() != Some(mesh_api::names::TRANSPORT_ALPN) {
                return Err(Kind::Tls);
            }
            let protocol = session.map(|version| match version {
                Version::Http1 => Session::Http1,
                Version::Http2 => Session::Http2,
            });
            let header = Header { port: target.addr.port(), protocol }.encode();
            stream.write_all(&header).await.map_err(|_| Kind::Reset)?;
        }
        Ok(Transport::ClientTls(Box::new(stream)).into())
    }
}

async fn handshake(
    tcp: TcpStream,
    tls: &EndpointTls,
    config: Arc<rustls::ClientConfig>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Kind> {
    match TlsConnector::from(config).connect(tls.server_name.clone(), tcp).await {
        Ok(stream) => Ok(stream),
        Err(error) => {
            tracing::info!(peer.id = %tls.identity, %error, "mesh TLS to an endpoint failed");
            Err(Kind::Tls)
        }
    }
}

fn refused(error: io::Error) -> Kind {
    match error.kind() {
        io::ErrorKind::TimedOut => Kind::ConnectTimeout,
        _ => Kind::ConnectRefused,
    }
}

impl Pool {
    pub fn new(target: Target, connector: Rc<Connector>) -> Rc<Pool> {
        let pool = Rc::new(Pool {
            target,
            connector: connector.clone(),
            h1: RefCell::default(),
            h2: RefCell::default(),
            opening: Cell::new(false),
            opened: Notify::new(),
            last_error: Cell::new(None),
            retired: Cell::new(false),
        });
        connector.pools.borrow_mut().push(Rc::downgrade(&pool));
        pool
    }

    /// Sends on a pooled or new connection. Where a pooled one turns out to be closed the next is taken: the server did not
    /// see the request. Takes the request out of `req`, by reference because every move of a request through an async function
    /// doubles its place in the future.
    pub async fn send(
        self: &Rc<Self>,
        version: Version,
        req: &mut Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        match version {
            Version::Http1 => self.send_h1(req).await,
            Version::Http2 => self.send_h2(req).await,
        }
    }

    /// For opaque connections and upgrades: one of its own.
    pub async fn connect(&self, session: Option<Version>) -> Result<Stream, Kind> {
        self.connector.connect(&self.target, session).await
    }

    async fn send_h1(
        self: &Rc<Self>,
        req: &mut Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        loop {
            let pooled = self.idle_h1();
            let fresh = pooled.is_none();
            let mut send = match pooled {
                Some(send) => send,
                // Boxed: a handshake's future is large, and rarely needed.
                None => match Box::pin(self.open_h1()).await {
                    Ok(send) => send,
                    Err(kind) => return Err(Failed::connect(kind)),
                },
            };
            match send.try_send_request(take(req)).await {
                Ok(res) => {
                    return Ok((res, Lease::H1 { send: Some(send), pool: self.clone(), spoilt: false }));
                }
                Err(error) => retryable(error, fresh, req)?,
            }
        }
    }

    fn idle_h1(&self) -> Option<http1::SendRequest<RequestBody>> {
        let mut idle = self.h1.borrow_mut();
        while let Some(IdleH1 { send, since }) = idle.pop() {
            // Who has kept it for as long may be about to close it.
            if send.is_ready() && since.elapsed() < self.connector.idle {
                return Some(send);
            }
        }
        None
    }

    async fn open_h1(&self) -> Result<http1::SendRequest<RequestBody>, Kind> {
        let stream = self.connect(Some(Version::Http1)).await?;
        let (send, conn) = http1::Builder::new()
            .max_header_size(MAX_HEAD)
            .max_headers(super::check::MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Kind::Reset)?;
        // Errors reach the request in flight; without one there is nobody to tell.
        spawn_local(async move { drop(conn.with_upgrades().await) });
        Ok(send)
    }

    async fn send_h2(
        self: &Rc<Self>,
        req: &mut Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        loop {
            let lease = match self.open_h2().await {
                Ok(lease) => lease,
                Err(kind) => return Err(Failed::connect(kind)),
            };
            let Lease::H2(conn) = &lease else { unreachable!("open_h2 gives HTTP/2") };
            let sent = conn.send.borrow_mut().try_send_request(take(req));
            match sent.await {
                Ok(res) => return Ok((res, lease)),
                Err(error) => retryable(error, false, req)?,
            }
        }
    }

    /// A stream's place on a connection that has one left, if need be on a new one.
    async fn open_h2(self: &Rc<Self>) -> Result<Lease, Kind> {
        loop {
            if let Some(conn) = self.free_h2() {
                conn.in_flight.set(conn.in_flight.get() + 1);
                return Ok(Lease::H2(conn));
            }
            let mut opened = pin!(self.opened.notified());
            // Registered before the task can finish, so that its word is not missed.
            opened.as_mut().enable();
            if !self.opening.replace(true) {
                self.last_error.set(None);
                // Its own task: the connection is for all who wait, not only for the first, who may give up.
                spawn_local(self.clone().make_h2());
            }
            opened.await;
            if let Some(kind) = self.last_error.get() {
                return Err(kind);
            }
        }
    }

    fn free_h2(&self) -> Option<Rc<H2>> {
        let mut conns = self.h2.borrow_mut();
        let found = conns
            .iter()
            .position(|conn| !conn.send.borrow().is_closed() && conn.in_flight.get() < conn.max.get());
        match found {
            Some(0) => conns.first().cloned(),
            found => {
                conns.retain(|conn| !conn.send.borrow().is_closed());
                found.and_then(|_| conns.iter().find(|conn| conn.in_flight.get() < conn.max.get()).cloned())
            }
        }
    }

    async fn make_h2(self: Rc<Self>) {
        match self.handshake_h2().await {
            Ok(conn) => self.h2.borrow_mut().push(Rc::new(conn)),
            Err(kind) => self.last_error.set(Some(kind)),
        }
        self.opening.set(false);
        self.opened.notify_waiters();
    }

    async fn handshake_h2(&self) -> Result<H2, Kind> {
        let stream = self.connect(Some(Version::Http2)).await?;
        let keepalive = self.connector.http2;
        let (send, conn) = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_send_buf_size(H2_SEND_BUFFER)
            .max_header_list_size(MAX_HEAD as u32)
            .keep_alive_interval(keepalive.interval)
            .keep_alive_timeout(keepalive.timeout)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Kind::Reset)?;
        let max = Rc::new(Cell::new(conn.current_max_send_streams()));
        let current = max.clone();
        spawn_local(async move {
            let mut conn = pin!(conn);
            std::future::poll_fn(move |cx| {
                let polled = conn.as_mut().poll(cx);
                // Zero would be a peer that takes no request; its SETTINGS may yet change.
                current.set(conn.current_max_send_streams().max(1));
                polled.map(drop)
            })
            .await;
        });
        Ok(H2 {
            send: RefCell::new(send),
            in_flight: Cell::new(0),
            max,
            idle_since: Cell::new(Instant::now()),
        })
    }

    /// No more requests: idle connections are closed now, the others after their last response.
    pub fn retire(&self) {
        self.retired.set(true);
        self.h1.borrow_mut().clear();
        self.h2.borrow_mut().clear();
    }

    /// Has it any connection?
    pub fn is_used(&self) -> bool {
        !self.h1.borrow().is_empty() || !self.h2.borrow().is_empty()
    }

    fn close_idle(&self, max: Duration) {
        self.h1.borrow_mut().retain(|idle| idle.since.elapsed() < max && !idle.send.is_closed());
        self.h2.borrow_mut().retain(|conn| {
            conn.in_flight.get() > 0
                || (conn.idle_since.get().elapsed() < max && !conn.send.borrow().is_closed())
        });
    }
}

impl Lease {
    /// The connection ends now.
    pub fn discard(mut self) {
        if let Lease::H1 { send, .. } = &mut self {
            send.take();
        }
    }

    /// The connection ends after this response.
    pub fn spoil(&mut self) {
        if let Lease::H1 { spoilt, .. } = self {
            *spoilt = true;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self {
            Lease::H1 { send, pool, spoilt } => {
                let Some(mut send) = send.take() else { return };
                if *spoilt || send.is_closed() || pool.retired.get() {
                    return;
                }
                // The connection is free again by the time its response has been read to the end, with rare exceptions.
                if send.is_ready() {
                    return pool.give_back(send);
                }
                let pool = Rc::downgrade(pool);
                spawn_local(async move {
                    if send.ready().await.is_ok()
                        && let Some(pool) = pool.upgrade()
                    {
                        pool.give_back(send);
                    }
                });
            }
            Lease::H2(conn) => {
                conn.in_flight.set(conn.in_flight.get() - 1);
                if conn.in_flight.get() == 0 {
                    conn.idle_since.set(Instant::now());
                }
            }
        }
    }
}

impl Pool {
    fn give_back(&self, send: http1::SendRequest<RequestBody>) {
        let mut idle = self.h1.borrow_mut();
        if !self.retired.get() && idle.len() < MAX_IDLE {
            idle.push(IdleH1 { send, since: Instant::now() });
        }
    }
}

impl Failed {
    fn connect(kind: Kind) -> Failed {
        Failed { kind, unsent: true, returned: true, connect: true }
    }
}

fn take(req: &mut Request<RequestBody>) -> Request<RequestBody> {
    std::mem::replace(req, Request::new(RequestBody::empty()))
}

/// Puts the request back if it was never written; `Ok` if the connection had been idle, so that another may do.
fn retryable(
    mut error: TrySendError<Request<RequestBody>>,
    fresh: bool,
    slot: &mut Request<RequestBody>,
) -> Result<(), Failed> {
    if let Some(req) = error.take_message() {
        *slot = req;
        return match fresh {
            true => Err(Failed { kind: Kind::Reset, unsent: true, returned: true, connect: false }),
            false => Ok(()),
        };
    }
    let error = error.into_error();
    let refused = h2_error(&error).is_some_and(|h2| {
        h2.reason() == Some(h2::Reason::REFUSED_STREAM) && (h2.is_reset() || h2.is_go_away())
            || (h2.is_go_away() && h2.is_remote() && h2.reason() == Some(h2::Reason::NO_ERROR))
    });
    let kind = match error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        true => Kind::BadResponse,
        false => Kind::Reset,
    };
    tracing::debug!(%error, refused, "request failed");
    Err(Failed { kind, unsent: refused, returned: false, connect: false })
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(h2) = error.downcast_ref() {
            return Some(h2);
        }
        source = error.source();
    }
    None
}
