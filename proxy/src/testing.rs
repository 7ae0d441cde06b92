//! The request path in one thread, for tests: a raw client, our outbound and inbound sides with real mutual TLS between them,
//! and an origin that writes down every byte. Policy is what the test says; there is no control plane.

use crate::{
    config::Config,
    control::{Control, Discovery},
    drain::{self, Drain},
    identity::Credentials,
    inbound::Inbound,
    io::{Stream, Transport},
    orig_dst::OrigDst,
    outbound::Outbound,
    policy::{
        Meta,
        endpoint::{Endpoint, EndpointTls, Endpoints, ProtocolHint},
        http::{RequestMatch, Timeouts},
        inbound, outbound,
    },
    telemetry::{SpanQueue, Telemetry},
    tls::{
        configs::Material,
        testing::{Authority, Leaf},
    },
};
use std::{
    cell::RefCell,
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{LocalSet, spawn_local},
    time,
};

pub const SERVER: &str = "web.demo.serviceaccount.identity.mesh.cluster.local";
pub const CLIENT: &str = "client.demo.serviceaccount.identity.mesh.cluster.local";
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a test on a worker's kind of runtime.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        time::timeout(Duration::from_secs(120), test).await.expect("the test hangs")
    })
}

pub fn meta(kind: &str, name: &str) -> Meta {
    Meta {
        group: "".into(),
        kind: kind.into(),
        namespace: "demo".into(),
        name: name.into(),
        port: Some(80),
        section: "".into(),
    }
}

/// What the proxies believe, to be changed at any time.
pub struct Mesh {
    pub outbound: watch::Sender<outbound::Lookup>,
    pub inbound: watch::Sender<Arc<inbound::Policy>>,
    /// By destination path; those that are not here have the origin's.
    pub endpoints: Rc<RefCell<HashMap<String, watch::Sender<Endpoints>>>>,
    /// The application's way out: a redirected connection.
    pub app: SocketAddr,
    /// The same as `http_proxy`.
    pub proxy: SocketAddr,
    /// Straight to the inbound side, as an unmeshed client is redirected.
    pub direct: SocketAddr,
    pub drain: Drain,
    /// Both sides' spans, of requests that come with a decision to record them.
    pub spans: SpanQueue,
    pub telemetry: Telemetry,
}

impl Mesh {
    /// In front of the application at `origin`.
    pub async fn start(origin: SocketAddr) -> Mesh {
        Mesh::with(origin, ProtocolHint::Http2).await
    }

    pub async fn with(origin: SocketAddr, hint: ProtocolHint) -> Mesh {
        let authority = Authority::default();
        let credentials = |name: &str| credentials(&authority, name);
        let (telemetry, spans) = Telemetry::new(0.0, false);
        let (drain, guard) = drain::new();
        let config = Arc::new(config());
        let listen = || async { TcpListener::bind("127.0.0.1:0").await.unwrap() };
        let (peer, direct, app, proxy) = (listen().await, listen().await, listen().await, listen().await);
        let at = |listener: &TcpListener| listener.local_addr().unwrap();

        let policy = outbound::Lookup::Policy(Arc::new(to_service("web")));
        let (outbound, outbound_rx) = watch::channel(policy);
        let (inbound, inbound_rx) = watch::channel(Arc::new(allow(inbound::Authentication::Unauthenticated)));
        let endpoints: Rc<RefCell<HashMap<String, watch::Sender<Endpoints>>>> = Rc::default();
        let meshed = meshed(origin, at(&peer).port(), hint);
        let known = endpoints.clone();
        let find = move |path: &str| {
            let new = || watch::channel(set([meshed.clone()])).0;
            known.borrow_mut().entry(path.to_owned()).or_insert_with(new).subscribe()
        };
        let discovery = Discovery::scripted(outbound_rx, find, inbound_rx);

        let control = |credentials| Control {
            discovery: discovery.clone(),
            credentials: watch::channel(Some(credentials)).1,
        };
        let out = Outbound::new(config.clone(), control(credentials(CLIENT)), telemetry.worker(), &guard);
        let inb = Inbound::new(config, control(credentials(SERVER)), telemetry.worker(), &guard);
        let mesh = Mesh {
            outbound,
            inbound,
            endpoints,
            app: at(&app),
            proxy: at(&proxy),
            direct: at(&direct),
            drain,
            spans,
            telemetry,
        };
        let service: SocketAddr = "10.0.0.1:80".parse().unwrap();
        for (listener, dst) in [(app, OrigDst::Fixed(service)), (proxy, OrigDst::Authority)] {
            let (out, guard) = (out.clone(), guard.clone());
            accept(listener, move |stream, client, _| {
                let (connection, guard) = (out.clone().connection(stream, client, dst), guard.clone());
                async move {
                    connection.await;
                    drop(guard);
                }
            });
        }
        for (listener, dst) in [(direct, OrigDst::Fixed(origin)), (peer, OrigDst::Authority)] {
            let (inb, guard) = (inb.clone(), guard.clone());
            accept(listener, move |stream, client, local| {
                let (connection, guard) = (inb.clone().connection(stream, client, dst, local), guard.clone());
                async move {
                    connection.await;
                    drop(guard);
                }
            });
        }
        mesh
    }
}

fn accept<F: Future<Output = ()> + 'static>(
    listener: TcpListener,
    serve: impl Fn(Stream, SocketAddr, SocketAddr) -> F + 'static,
) {
    spawn_local(async move {
        while let Ok((socket, client)) = listener.accept().await {
            let local = socket.local_addr().unwrap();
            spawn_local(serve(Transport::Tcp(socket).into(), client, local));
        }
    });
}

fn config() -> Config {
    let get = |name: &str| {
        Some(match name {
            "MESH_PROXY_OPERATOR_ADDR" => "127.0.0.1:8086".into(),
            "MESH_PROXY_IDENTITY_LOCAL_NAME" => SERVER.into(),
            "MESH_PROXY_IDENTITY_TOKEN_FILE" => "/none".into(),
            "MESH_PROXY_IDENTITY_TRUST_ANCHORS_FILE" => "/none".into(),
            "MESH_PROXY_POLICY_WORKLOAD" => r#"{"ns":"demo","pod":"web-0"}"#.into(),
            _ => return None,
        })
    };
    Config::from_env(&get, &[]).unwrap_or_else(|errors| panic!("{:?}", errors.0))
}

fn credentials(authority: &Authority, name: &str) -> Arc<Credentials> {
    let (key, chain) = authority.issue(Leaf::named(name));
    let material = Material::new(name, key, chain, authority.roots()).unwrap();
    Arc::new(Credentials {
        name: name.into(),
        expires: SystemTime::now() + Duration::from_secs(3_600),
        anchors: 0,
        issuer: 0,
        server: Arc::new(material.server().unwrap()),
        client_transport: Arc::new(material.client(&[mesh_api::names::TRANSPORT_ALPN]).unwrap()),
        client_plain: Arc::new(material.client(&[]).unwrap()),
    })
}

pub fn set(endpoints: impl IntoIterator<Item = Endpoint>) -> Endpoints {
    Endpoints::Known(Arc::new(
        endpoints.into_iter().map(|endpoint| (endpoint.addr, Arc::new(endpoint))).collect(),
    ))
}

pub fn plain(addr: SocketAddr) -> Endpoint {
    Endpoint {
        addr,
        weight: 10_000,
        tls: None,
        hint: ProtocolHint::None,
        opaque_transport_port: None,
        labels: Arc::new([]),
    }
}

pub fn meshed(addr: SocketAddr, transport_port: u16, hint: ProtocolHint) -> Endpoint {
    let tls = EndpointTls { identity: SERVER.into(), server_name: SERVER.try_into().unwrap() };
    Endpoint { tls: Some(tls), hint, opaque_transport_port: Some(transport_port), ..plain(addr) }
}

/// A backend that discovers endpoints by its name.
pub fn backend(name: &str) -> outbound::RouteBackend {
    let kind = outbound::BackendKind::Balance {
        path: name.into(),
        ewma: outbound::PeakEwma { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10) },
    };
    let backend = outbound::Backend {
        meta: meta("Service", name),
        queue_capacity: 100,
        failfast: Duration::from_millis(500),
        kind,
    };
    outbound::RouteBackend { filters: vec![], timeout: None, backend: Arc::new(backend) }
}

pub fn rule(name: &str) -> outbound::HttpRule {
    outbound::HttpRule {
        matches: vec![RequestMatch::default()],
        filters: vec![],
        backends: outbound::Distribution::FirstAvailable(vec![backend(name)]),
        retry: None,
        timeouts: Timeouts::default(),
    }
}

pub fn http(rules: Vec<outbound::HttpRule>) -> outbound::Http {
    outbound::Http {
        routes: vec![outbound::HttpRoute { meta: meta("HTTPRoute", "route"), hosts: vec![], rules }],
        failure_accrual: None,
    }
}

pub fn opaque(name: &str) -> outbound::Opaque {
    outbound::Opaque {
        meta: meta("default", "opaq"),
        filters: vec![],
        backends: outbound::Distribution::FirstAvailable(vec![backend(name)]),
    }
}

/// The policy of a Service without routes.
pub fn to_service(name: &str) -> outbound::Policy {
    routed(vec![rule(name)], vec![rule(name)])
}

pub fn routed(http1: Vec<outbound::HttpRule>, http2: Vec<outbound::HttpRule>) -> outbound::Policy {
    outbound::Policy {
        meta: meta("Service", "web"),
        protocol: outbound::Protocol::Detect {
            timeout: Duration::from_secs(10),
            http1: http(http1),
            http2: http(http2),
            opaque: opaque("web"),
        },
    }
}

pub fn allow(authentication: inbound::Authentication) -> inbound::Policy {
    let networks = ["0.0.0.0/0", "::/0"]
        .map(|net| inbound::Network { net: net.parse().unwrap(), except: vec![] })
        .to_vec();
    let authorization =
        inbound::Authorization { meta: meta("test", "allowed"), networks, authentication, audit: false };
    inbound::Policy {
        meta: meta("Server", "web"),
        protocol: inbound::Protocol::Detect { timeout: Duration::from_secs(10), routes: Arc::new([]) },
        authorizations: Arc::new([authorization]),
        rate_limit: None,
        routes_add: false,
        assumed: false,
    }
}

pub fn deny() -> inbound::Policy {
    inbound::Policy { authorizations: Arc::new([]), ..allow(inbound::Authentication::Unauthenticated) }
}

/// An application that keeps what it gets and answers what it is told.
#[derive(Clone)]
pub struct Origin {
    pub addr: SocketAddr,
    /// Everything received, by connection.
    pub got: Rc<RefCell<Vec<Vec<u8>>>>,
}

pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl Origin {
    /// Answers every request with `answer`.
    pub async fn start(answer: &'static str) -> Origin {
        Origin::with(move |mut socket, got| async move {
            loop {
                match read_request(&mut socket, &got).await {
                    true => socket.write_all(answer.as_bytes()).await.unwrap(),
                    false => return,
                }
            }
        })
        .await
    }

    /// Treats each connection as `serve` does; it also says where bytes are written down.
    pub async fn with<F: Future<Output = ()> + 'static>(
        serve: impl Fn(TcpStream, Got) -> F + 'static,
    ) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Origin { addr: listener.local_addr().unwrap(), got: Rc::default() };
        let all = origin.got.clone();
        spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                all.borrow_mut().push(Vec::new());
                let got = Got { all: all.clone(), at: all.borrow().len() - 1 };
                spawn_local(serve(socket, got));
            }
        });
        origin
    }

    pub fn text(&self) -> String {
        self.got.borrow().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    pub fn clear(&self) {
        self.got.borrow_mut().iter_mut().for_each(Vec::clear);
    }
}

pub struct Got {
    all: Rc<RefCell<Vec<Vec<u8>>>>,
    at: usize,
}

impl Got {
    pub fn bytes(&self) -> Vec<u8> {
        self.all.borrow()[self.at].clone()
    }

    pub fn push(&self, bytes: &[u8]) {
        self.all.borrow_mut()[self.at].extend_from_slice(bytes);
    }
}

/// Reads one request, as an application without any mercy would; `false` at the end of the connection.
pub async fn read_request(socket: &mut TcpStream, got: &Got) -> bool {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4_096];
        let n = socket.read(&mut piece).await.unwrap_or(0);
        if n == 0 {
            return false;
        }
        got.push(&piece[..n]);
        bytes.extend_from_slice(&piece[..n]);
        if is_complete(&bytes, true) {
            return true;
        }
    }
}

/// Whether `bytes` hold a whole message: a head and, as it says, a body.
pub fn is_complete(bytes: &[u8], request: bool) -> bool {
    if let Some(rest) = bytes.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
        return is_complete(rest, request);
    }
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let body = &bytes[end + 4..];
    if head.contains("transfer-encoding: chunked") {
        return body.ends_with(b"0\r\n\r\n")
            || body.windows(5).any(|w| w == b"\r\n0\r\n") && body.ends_with(b"\r\n\r\n");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    match length {
        Some(length) => body.len() >= length,
        None => request || head.starts_with("http/1.1 101") || head.starts_with("http/1.1 204"),
    }
}

/// Sends bytes and reads one response, or to the end of the connection.
pub async fn exchange(addr: SocketAddr, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    // The proxy may have heard enough before everything is sent.
    let _ = socket.write_all(request).await;
    read_response(&mut socket).await
}

pub async fn read_response(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while !is_complete(&bytes, false) {
            let mut piece = [0; 4_096];
            match socket.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(n) => bytes.extend_from_slice(&piece[..n]),
            }
        }
    };
    time::timeout(PATIENCE, read)
        .await
        .unwrap_or_else(|_| panic!("no response, only {:?}", String::from_utf8_lossy(&bytes)));
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn status(response: &str) -> u16 {
    response.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0)
}
