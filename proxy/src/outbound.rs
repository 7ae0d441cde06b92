//! From the application to wherever it wants to go.
//!
//! accept → original destination → discover (cached) → detect → route → [retry, timeout] → balance → pool → record

pub mod destination;
pub mod request;
pub mod retry;
pub mod router;
#[cfg(test)]
mod tests;

use crate::{
    balance::Balancer,
    config::Config,
    control::Control,
    detect::{self, Detected},
    drain::{Guard, Observer},
    forward,
    http::{Version, client::Connector, error::Kind, server},
    io::Stream,
    orig_dst::OrigDst,
    policy::{
        Meta,
        outbound::{FailureAccrual, Target},
    },
    telemetry::{
        Worker,
        metrics::{
            balancer::Carries,
            http::HttpMetrics,
            labels::{Direction, OutboundLabels, PeerTls},
            route::Split,
        },
    },
};
use ahash::AHashMap;
use destination::Destination;
use request::Session;
use router::{OpaqueRoute, Protocol, Router};
use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};
use tokio::{task::spawn_local, time};

/// One worker's outbound side.
#[derive(Debug)]
pub struct Outbound {
    config: Arc<Config>,
    control: Control,
    worker: Worker,
    drain: Observer,
    connector: Rc<Connector>,
    /// What is in use, and what was until lately: connections and measurements outlive a pause.
    destinations: RefCell<AHashMap<Target, Rc<Destination>>>,
    balancers: RefCell<AHashMap<(Arc<str>, Accrual, Carries), Weak<Balancer>>>,
    /// For requests that fail before there is a policy.
    stray: Rc<HttpMetrics>,
    http_errors: Split<&'static str>,
    tcp_errors: Split<&'static str>,
}

/// Backends with different breakers do not share endpoints' state.
type Accrual = Option<(u32, Duration, Duration, u32)>;

impl Outbound {
    pub fn new(config: Arc<Config>, control: Control, worker: Worker, guard: &Guard) -> Rc<Outbound> {
        let connector = Connector::start(control.credentials.clone(), &config.outbound.connections);
        let labels =
            OutboundLabels { tls: PeerTls::Disabled, srv: None, route: None, backend: None, endpoint: &[] };
        let outbound = Rc::new(Outbound {
            stray: worker.outbound_http(&labels),
            http_errors: worker.http_errors(Direction::Outbound),
            tcp_errors: worker.tcp_errors(Direction::Outbound),
            config,
            control,
            worker,
            drain: guard.observer(),
            connector,
            destinations: RefCell::default(),
            balancers: RefCell::default(),
        });
        outbound.clone().forget_idle();
        outbound
    }

    /// One of the application's connections, from its first byte to its end.
    pub async fn connection(self: Rc<Self>, stream: Stream, client: SocketAddr, dst: OrigDst) {
        if let Err(error) = self.serve(stream, client, dst).await {
            tracing::debug!(%client, ?dst, %error, "outbound connection ended");
        }
    }

    async fn serve(self: &Rc<Self>, stream: Stream, client: SocketAddr, dst: OrigDst) -> io::Result<()> {
        match dst {
            OrigDst::Socket(addr) | OrigDst::Fixed(addr) => {
                let dst = self.destination(&Target::Addr(addr), None);
                self.connection_to(stream, client, dst).await
            }
            OrigDst::Authority => {
                let (detected, stream) = detect::run(
                    stream,
                    self.config.outbound.connections.detect_timeout,
                    self.config.outbound.connections.detect_timeout,
                )
                .await?;
                let version = match detected {
                    Detected::Http1 => Version::Http1,
                    Detected::Http2 => Version::Http2,
                    Detected::Closed => return Ok(()),
                    // Without a redirect and without a name there is nowhere to send it.
                    Detected::Tls | Detected::Opaque | Detected::Silent | Detected::Stalled => {
                        self.tcp_errors.inc("no_destination");
                        return Ok(());
                    }
                };
                self.http(stream, client, version, None).await
            }
        }
    }

    /// A connection whose destination is known: by its original address, or because a CONNECT named it.
    pub async fn connection_to(
        self: &Rc<Self>,
        stream: Stream,
        client: SocketAddr,
        dst: Rc<Destination>,
    ) -> io::Result<()> {
        let router = match dst.router(self.patience()).await {
            Ok(router) => router,
            Err(kind) => return self.refuse(stream, client, dst, kind).await,
        };
        let opaque = match &router.protocol {
            Protocol::Detect { timeout, opaque, .. } => {
                let deadline = (*timeout).min(self.config.outbound.connections.detect_timeout);
                let (detected, stream) = detect::run(stream, detect::SILENCE, deadline).await?;
                match detected {
                    Detected::Http1 => return self.http(stream, client, Version::Http1, Some(dst)).await,
                    Detected::Http2 => return self.http(stream, client, Version::Http2, Some(dst)).await,
                    Detected::Tls | Detected::Opaque => {
                        return self.opaque(stream, &router, opaque, None).await;
                    }
                    Detected::Silent => {
                        return self.opaque(stream, &router, opaque, Some((client, dst))).await;
                    }
                    Detected::Closed | Detected::Stalled => return Ok(()),
                }
            }
            Protocol::Http1(_) => return self.http(stream, client, Version::Http1, Some(dst)).await,
            Protocol::Http2(_) => return self.http(stream, client, Version::Http2, Some(dst)).await,
            Protocol::Opaque(opaque) => opaque,
        };
        self.opaque(stream, &router, opaque, None).await
    }

    /// There is no policy to go by: HTTP is told so, anything else is closed.
    async fn refuse(
        self: &Rc<Self>,
        stream: Stream,
        client: SocketAddr,
        dst: Rc<Destination>,
        kind: Kind,
    ) -> io::Result<()> {
        self.tcp_errors.inc(kind.label());
        let (detected, stream) = detect::run(stream, detect::SILENCE, detect::SILENCE).await?;
        match detected {
            Detected::Http1 => self.http(stream, client, Version::Http1, Some(dst)).await,
            Detected::Http2 => self.http(stream, client, Version::Http2, Some(dst)).await,
            Detected::Tls | Detected::Opaque | Detected::Silent | Detected::Closed | Detected::Stalled => {
                Ok(())
            }
        }
    }

    async fn http(
        self: &Rc<Self>,
        stream: Stream,
        client: SocketAddr,
        version: Version,
        dst: Option<Rc<Destination>>,
    ) -> io::Result<()> {
        let session = Rc::new(Session::new(self.clone(), client, dst));
        let switch = session.switch.clone();
        let service = move |req| session.clone().request(req);
        server::serve(stream, version, self.config.outbound.connections.http2, switch, &self.drain, service)
            .await
            .map_err(io::Error::other)
    }

    /// A client that was `silent` may yet turn out to speak HTTP.
    async fn opaque(
        self: &Rc<Self>,
        stream: Stream,
        router: &Router,
        route: &OpaqueRoute,
        silent: Option<(SocketAddr, Rc<Destination>)>,
    ) -> io::Result<()> {
        // A client that is told nothing else learns from a reset that its connection is refused, and not over.
        let refuse = |stream: Stream, kind: Kind| {
            self.tcp_errors.inc(kind.label());
            stream.reset_on_close();
            Ok(())
        };
        let Some(backend) = route.backend() else { return refuse(stream, route.refusal()) };
        let Some(balancer) = &backend.balancer else { return refuse(stream, Kind::NoBackend) };
        let (mut avoid, mut deadline) = (None, None);
        let (endpoint, upstream) = loop {
            let endpoint = match balancer.pick(avoid.as_ref(), &mut deadline).await {
                Ok(endpoint) => endpoint,
                Err(kind) => return refuse(stream, kind),
            };
            if self.is_own(endpoint.info.addr) {
                return refuse(stream, Kind::Loop);
            }
            let began = time::Instant::now();
            match endpoint.pool.connect(None).await {
                Ok(upstream) => {
                    endpoint.connect_succeeded();
                    balancer.connected();
                    break (endpoint, upstream);
                }
                Err(kind) => {
                    endpoint.connect_failed(began, time::Instant::now(), kind);
                    if balancer.is_fixed() || !balancer.may_wait(&mut deadline) {
                        return refuse(stream, kind);
                    }
                    avoid = Some(endpoint);
                }
            }
        };
        let (stream, upstream) = match silent {
            None => (stream, upstream),
            Some((client, dst)) => {
                let limit = self.config.outbound.connections.detect_timeout;
                let (detected, stream, upstream) = detect::late(stream, upstream, limit).await?;
                match detected {
                    Detected::Http1 => return self.http(stream, client, Version::Http1, Some(dst)).await,
                    Detected::Http2 => return self.http(stream, client, Version::Http2, Some(dst)).await,
                    Detected::Stalled => return Ok(()),
                    Detected::Tls | Detected::Opaque | Detected::Silent | Detected::Closed => {
                        (stream, upstream)
                    }
                }
            }
        };
        let open = backend.tcp(&self.worker, router, &endpoint).open();
        let mut attempt = endpoint.begin();
        attempt.connected();
        let result = forward::copy(stream, upstream, &open).await;
        drop(attempt);
        if result.is_err() {
            open.failed();
        }
        result
    }

    /// The destination's shared state, made at its first use.
    pub fn destination(self: &Rc<Self>, target: &Target, host: Option<(Arc<str>, u16)>) -> Rc<Destination> {
        if let Some(known) = self.destinations.borrow().get(target) {
            known.touch();
            return known.clone();
        }
        let made = Destination::start(self, target.clone(), host);
        self.destinations.borrow_mut().insert(target.clone(), made.clone());
        made
    }

    fn balancer(
        self: &Rc<Self>,
        path: &Arc<str>,
        meta: &Meta,
        accrual: Option<FailureAccrual>,
        carries: Carries,
        capacity: usize,
        patience: Duration,
    ) -> Rc<Balancer> {
        let key = accrual.map(|a| (a.max_failures, a.backoff.min, a.backoff.max, a.backoff.jitter.to_bits()));
        let key = (path.clone(), key, carries);
        if let Some(known) = self.balancers.borrow().get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let made = Balancer::discovered(
            path.clone(),
            self.control.discovery.clone(),
            self.connector.clone(),
            capacity,
            patience,
            accrual,
            self.worker.balancer(meta, carries),
        );
        self.balancers.borrow_mut().insert(key, Rc::downgrade(&made));
        made
    }

    /// How long a new destination's first answer is waited for.
    fn patience(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// Would a connection to `addr` come back to us?
    pub fn is_own(&self, addr: SocketAddr) -> bool {
        self.config
            .outbound
            .listen
            .iter()
            .any(|listen| crate::orig_dst::is_listener(addr, *listen) && addr.ip().is_loopback())
    }

    fn forget_idle(self: Rc<Self>) {
        let outbound = Rc::downgrade(&self);
        spawn_local(async move {
            loop {
                time::sleep(Duration::from_secs(1)).await;
                let Some(outbound) = outbound.upgrade() else { return };
                let max = outbound.config.outbound.connections.discovery_idle;
                outbound
                    .destinations
                    .borrow_mut()
                    .retain(|_, dst| Rc::strong_count(dst) > 1 || !dst.idle_for(max));
                outbound.balancers.borrow_mut().retain(|_, balancer| balancer.strong_count() > 0);
            }
        });
    }
}
