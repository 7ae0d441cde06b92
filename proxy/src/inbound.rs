//! From peers and strangers to the application beside us.
//!
//! accept → original destination → TLS? whose? → transport header → detect → authorize → route → authorize → application → record

pub mod authorize;
mod limit;
pub mod port;
pub mod request;
#[cfg(test)]
mod tests;

use crate::{
    balance::Endpoint,
    config::Config,
    control::Control,
    detect::{self, Detected, Sni},
    drain::{Guard, Observer},
    forward,
    http::{Version, client::Connector, error::Kind, server},
    io::{Prefixed, Stream, Transport},
    orig_dst::OrigDst,
    policy::{
        endpoint::{Endpoint as Info, ProtocolHint},
        inbound::Protocol,
    },
    telemetry::{
        Worker,
        metrics::{
            labels::{Direction, PeerTls},
            route::Split,
        },
    },
    tls,
    transport_header::{Header, Session as Carried},
};
use ahash::AHashMap;
use authorize::Peer;
use bytes::BytesMut;
use port::Port;
use request::Session;
use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, task::spawn_local, time};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// For a TLS handshake, and for the transport header after it.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The metric label `error` of a handshake that was not over by then.
const STALLED: &str = "tls_timeout";

/// For the first bytes of a connection that a peer's proxy has already looked at.
const FORWARDED_SILENCE: Duration = Duration::from_millis(50);

/// One worker's inbound side.
#[derive(Debug)]
pub struct Inbound {
    config: Arc<Config>,
    control: Control,
    worker: Worker,
    drain: Observer,
    connector: Rc<Connector>,
    ports: RefCell<AHashMap<u16, Rc<Port>>>,
    /// The application, by address: one pool each.
    applications: RefCell<AHashMap<SocketAddr, Rc<Endpoint>>>,
    http_errors: Split<&'static str>,
    tcp_errors: Split<&'static str>,
}

impl Inbound {
    pub fn new(config: Arc<Config>, control: Control, worker: Worker, guard: &Guard) -> Rc<Inbound> {
        let connector = Connector::start(control.credentials.clone(), &config.inbound.connections);
        let inbound = Rc::new(Inbound {
            http_errors: worker.http_errors(Direction::Inbound),
            tcp_errors: worker.tcp_errors(Direction::Inbound),
            config,
            control,
            worker,
            drain: guard.observer(),
            connector,
            ports: RefCell::default(),
            applications: RefCell::default(),
        });
        inbound.clone().forget_idle();
        inbound
    }

    /// One connection, from its first byte to its end.
    pub async fn connection(
        self: Rc<Self>,
        stream: Stream,
        client: SocketAddr,
        dst: OrigDst,
        local: SocketAddr,
    ) {
        if let Err(error) = self.serve(stream, client, dst, local).await {
            tracing::debug!(%client, ?dst, %error, "inbound connection ended");
        }
    }

    async fn serve(
        self: &Rc<Self>,
        stream: Stream,
        client: SocketAddr,
        dst: OrigDst,
        local: SocketAddr,
    ) -> io::Result<()> {
        let original = match dst {
            OrigDst::Socket(addr) | OrigDst::Fixed(addr) => Some(addr),
            // Only a peer's transport header can say which port it is for.
            OrigDst::Authority => None,
        };
        if original.is_some_and(|addr| !self.is_pod(addr.ip())) {
            return self.lost(Kind::Forbidden);
        }
        let port = match original {
            Some(addr) => Some(self.port(addr.port()).await),
            None => None,
        };
        // The application's bytes are not looked at where policy says so, except for our own TLS around them.
        let (detected, mut stream) = self.first_bytes(stream, port.as_deref()).await?;
        if detected == Detected::Tls {
            let sni;
            (sni, stream) = detect::read_sni(stream, HANDSHAKE).await?;
            match sni {
                Sni::Name(name) if *name == *self.config.identity.name => {
                    let credentials = self.control.credentials.borrow().clone();
                    let Some(credentials) = credentials else { return self.lost(Kind::NoIdentity) };
                    return self.meshed(stream, client, original, local, credentials.server.clone()).await;
                }
                // It may have been for us, and what is for us must not reach the application for being slow.
                Sni::NeedMore => return self.failed(STALLED),
                // Somebody else's TLS is the application's affair.
                Sni::Name(_) | Sni::Absent | Sni::Garbage => {}
            }
        }
        let (Some(port), Some(addr)) = (port, original) else { return self.lost(Kind::Loop) };
        self.plain(stream, Peer::plain(client.ip()), client, port, addr.ip(), detected).await
    }

    async fn first_bytes(&self, stream: Stream, port: Option<&Port>) -> io::Result<(Detected, Stream)> {
        let limit = self.config.inbound.connections.detect_timeout;
        let Some(port) = port else { return detect::run(stream, limit, limit).await };
        let policy = port.policy();
        match &policy.policy.protocol {
            Protocol::Detect { timeout, .. } => {
                detect::run(stream, detect::SILENCE, limit.min(*timeout)).await
            }
            // The client of an HTTP port speaks first, however late.
            Protocol::Http1(_) | Protocol::Http2(_) | Protocol::Grpc(_) | Protocol::Tls => {
                detect::run(stream, limit, limit).await
            }
            // Peers come with a transport header, not to the port itself; nobody else's first byte may be waited for.
            Protocol::Opaque => Ok((Detected::Opaque, stream)),
        }
    }

    /// What is spoken after a transport header that does not say. The peer's proxy has looked already, so bytes that are to be
    /// seen come with the header; a silent client has been waited for there.
    async fn forwarded_bytes(&self, stream: Stream, port: &Port) -> io::Result<(Detected, Stream)> {
        match port.policy().policy.protocol {
            Protocol::Opaque => Ok((Detected::Opaque, stream)),
            Protocol::Detect { timeout, .. } => {
                detect::run(
                    stream,
                    FORWARDED_SILENCE,
                    self.config.inbound.connections.detect_timeout.min(timeout),
                )
                .await
            }
            Protocol::Http1(_) | Protocol::Http2(_) | Protocol::Grpc(_) | Protocol::Tls => {
                self.first_bytes(stream, Some(port)).await
            }
        }
    }

    /// Mutual TLS with a peer's proxy, or TLS with a stranger that knows our name.
    async fn meshed(
        self: &Rc<Self>,
        stream: Stream,
        client: SocketAddr,
        original: Option<SocketAddr>,
        local: SocketAddr,
        config: Arc<rustls::ServerConfig>,
    ) -> io::Result<()> {
        let stream = match time::timeout(HANDSHAKE, handshake(stream, config)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.tcp_errors.inc(tls::refusal(&error));
                return Err(error);
            }
            Err(_) => return self.failed(STALLED),
        };
        let session = stream.get_ref().1;
        let peer = match tls::peer_identity(session) {
            Some(id) => Peer::new(PeerTls::Identity(id), client.ip()),
            None => Peer::new(PeerTls::NoIdentity, client.ip()),
        };
        let transport = session.alpn_protocol() == Some(mesh_api::names::TRANSPORT_ALPN);
        if !transport {
            let Some(addr) = original else { return self.lost(Kind::Loop) };
            let port = self.port(addr.port()).await;
            let stream = Stream::from(Transport::ServerTls(Box::new(stream)));
            let (detected, stream) = self.first_bytes(stream, Some(&port)).await?;
            return self.plain(stream, peer, client, port, addr.ip(), detected).await;
        }
        // A header moves the connection to another port, so only a proxy may send one.
        if !matches!(peer.tls, PeerTls::Identity(_)) {
            return self.lost(Kind::Unauthorized);
        }
        let (mut stream, mut seen) = (stream, BytesMut::new());
        let header = match time::timeout(HANDSHAKE, Header::read(&mut stream, &mut seen)).await? {
            Ok(header) => header,
            Err(error) => {
                self.tcp_errors.inc("transport_header");
                return Err(io::Error::other(error));
            }
        };
        let stream = Prefixed::new(seen.freeze(), Transport::ServerTls(Box::new(stream)));
        if self.is_own_port(header.port) {
            return self.lost(Kind::Loop);
        }
        let port = self.port(header.port).await;
        let ip = original.map_or(local.ip(), |addr| addr.ip());
        match header.protocol {
            Some(Carried::Http1) if port.policy().takes_http() => {
                self.http(stream, Version::Http1, peer, client, port, ip).await
            }
            Some(Carried::Http2) if port.policy().takes_http() => {
                self.http(stream, Version::Http2, peer, client, port, ip).await
            }
            Some(Carried::Http1 | Carried::Http2) => {
                self.opaque(stream, peer, client, port, ip, Detected::Opaque).await
            }
            None => {
                let (detected, stream) = self.forwarded_bytes(stream, &port).await?;
                self.plain(stream, peer, client, port, ip, detected).await
            }
        }
    }

    /// After TLS, or without: what is spoken is known.
    async fn plain(
        self: &Rc<Self>,
        stream: Stream,
        peer: Peer,
        client: SocketAddr,
        port: Rc<Port>,
        ip: IpAddr,
        detected: Detected,
    ) -> io::Result<()> {
        let policy = port.policy();
        if detected == Detected::Closed {
            return Ok(());
        }
        match (&policy.policy.protocol, detected) {
            (Protocol::Opaque | Protocol::Tls, _) => {
                self.opaque(stream, peer, client, port, ip, Detected::Opaque).await
            }
            (_, Detected::Http1) => self.http(stream, Version::Http1, peer, client, port, ip).await,
            (_, Detected::Http2) => self.http(stream, Version::Http2, peer, client, port, ip).await,
            (Protocol::Detect { .. }, Detected::Opaque | Detected::Silent | Detected::Tls) => {
                self.opaque(stream, peer, client, port, ip, detected).await
            }
            // What began like HTTP and stopped must not get past HTTP's rules as something else.
            (Protocol::Detect { .. }, Detected::Stalled | Detected::Closed)
            | (Protocol::Http1(_) | Protocol::Http2(_) | Protocol::Grpc(_), _) => self.not_http(),
        }
    }

    async fn http(
        self: &Rc<Self>,
        stream: Stream,
        version: Version,
        peer: Peer,
        client: SocketAddr,
        port: Rc<Port>,
        ip: IpAddr,
    ) -> io::Result<()> {
        let application = self.application(self.app_addr(ip, port.number));
        let session = Rc::new(Session::new(self.clone(), peer, client, port, application));
        let switch = session.switch.clone();
        let service = move |req| session.clone().request(req);
        server::serve(stream, version, self.config.inbound.connections.http2, switch, &self.drain, service)
            .await
            .map_err(io::Error::other)
    }

    /// Bytes, for as long as the policy allows this client. One that was `Silent` may yet turn out to speak HTTP.
    async fn opaque(
        self: &Rc<Self>,
        stream: Stream,
        peer: Peer,
        client: SocketAddr,
        port: Rc<Port>,
        ip: IpAddr,
        detected: Detected,
    ) -> io::Result<()> {
        let policy = port.policy();
        let allowed = authorize::connection(&policy.policy, &peer);
        if allowed.is_none() {
            self.worker.authz(&policy.authz_labels(&peer, port.number, None, allowed)).tcp_deny();
            self.tcp_errors.inc(Kind::Unauthorized.label());
            stream.reset_on_close();
            return Ok(());
        }
        let application = self.application(self.app_addr(ip, port.number));
        let upstream = match application.pool.connect(None).await {
            Ok(upstream) => upstream,
            Err(kind) => {
                self.tcp_errors.inc(kind.label());
                stream.reset_on_close();
                return Ok(());
            }
        };
        // Only now: who scans ports that nobody listens at makes no series.
        let authz = self.worker.authz(&policy.authz_labels(&peer, port.number, None, allowed));
        authz.tcp_allow();
        let metrics = self.worker.inbound_tcp(&policy.labels(&peer, port.number, None, allowed));
        let (stream, upstream) = if detected == Detected::Silent {
            let limit = self.config.inbound.connections.detect_timeout;
            let (detected, stream, upstream) = detect::late(stream, upstream, limit).await?;
            match detected {
                Detected::Http1 => return self.http(stream, Version::Http1, peer, client, port, ip).await,
                Detected::Http2 => return self.http(stream, Version::Http2, peer, client, port, ip).await,
                Detected::Stalled => return self.not_http(),
                Detected::Tls | Detected::Opaque | Detected::Silent | Detected::Closed => (stream, upstream),
            }
        } else {
            (stream, upstream)
        };
        let open = metrics.open();
        let result = tokio::select! {
            result = forward::copy(stream, upstream, &open) => result,
            () = port.denied(&peer) => {
                authz.tcp_terminate();
                Ok(())
            }
        };
        if result.is_err() {
            open.failed();
        }
        result
    }

    fn not_http(&self) -> io::Result<()> {
        self.failed("not_http")
    }

    fn lost(&self, kind: Kind) -> io::Result<()> {
        self.failed(kind.label())
    }

    fn failed(&self, error: &'static str) -> io::Result<()> {
        self.tcp_errors.inc(error);
        Ok(())
    }

    async fn port(self: &Rc<Self>, number: u16) -> Rc<Port> {
        if let Some(known) = self.ports.borrow().get(&number) {
            known.touch();
            return known.clone();
        }
        let made = Port::start(number, &self.control.discovery, &self.worker).await;
        if !made.is_followed {
            return made;
        }
        self.ports.borrow_mut().entry(number).or_insert(made).clone()
    }

    fn app_addr(&self, ip: IpAddr, port: u16) -> SocketAddr {
        SocketAddr::new(self.config.inbound.app_ip.unwrap_or(ip), port)
    }

    fn application(&self, addr: SocketAddr) -> Rc<Endpoint> {
        let mut applications = self.applications.borrow_mut();
        let make = || {
            let info = Info {
                addr,
                weight: 10_000,
                tls: None,
                hint: ProtocolHint::None,
                opaque_transport_port: None,
                labels: Arc::new([]),
            };
            Endpoint::new(Arc::new(info), self.connector.clone(), None)
        };
        applications.entry(addr).or_insert_with(make).clone()
    }

    /// We are no way to other machines, whatever a packet that is routed through the pod asks for.
    fn is_pod(&self, ip: IpAddr) -> bool {
        let ips = &self.config.inbound.ips;
        ips.is_empty() || ips.contains(&ip.to_canonical())
    }

    /// Where the application is at our own address, our listeners are too: a connection to them would come back.
    fn is_own_port(&self, port: u16) -> bool {
        let ours = self
            .config
            .outbound
            .listen
            .iter()
            .chain([&self.config.inbound.listen, &self.config.admin.listen]);
        self.config.inbound.app_ip.is_none() && ours.map(SocketAddr::port).any(|own| own == port)
    }

    fn forget_idle(self: Rc<Self>) {
        let inbound = Rc::downgrade(&self);
        spawn_local(async move {
            loop {
                time::sleep(Duration::from_secs(5)).await;
                let Some(inbound) = inbound.upgrade() else { return };
                let max = inbound.config.inbound.connections.discovery_idle;
                inbound
                    .ports
                    .borrow_mut()
                    .retain(|_, port| Rc::strong_count(port) > 1 || !port.idle_for(max));
                inbound
                    .applications
                    .borrow_mut()
                    .retain(|_, app| Rc::strong_count(app) > 1 || app.pool.is_used());
            }
        });
    }
}

async fn handshake(
    stream: Stream,
    config: Arc<rustls::ServerConfig>,
) -> io::Result<TlsStream<Prefixed<TcpStream>>> {
    let (prefix, transport) = stream.into_parts();
    let Transport::Tcp(tcp) = transport else {
        return Err(io::Error::other("TLS within TLS"));
    };
    TlsAcceptor::from(config).accept(Prefixed::new(prefix, tcp)).await
}
