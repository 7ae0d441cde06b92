//! The server from outside, over real connections: who may ask, what garbage is answered, how streams behave.

use super::{Config, Dashboard, Login, State, login, serve};
use crate::{
    ca::{Authority, Keys},
    cluster::reconcile::Unmeshed,
    telemetry::{Limits, Store, fixture::Report, now_ms},
};
use mesh_policy::{Settings, Tables, World};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

struct Server {
    addr: SocketAddr,
    store: Arc<Store>,
}

/// What the API of a world reads.
pub fn state(dashboard: Dashboard, login: Login, world: &World) -> State {
    let (_, tables) = watch::channel(Arc::new(Tables::build(world, &Settings::default())));
    let now = SystemTime::now();
    let keys = Keys::generate("cluster.local", now).unwrap();
    let authority = Authority::new(&keys, Duration::from_secs(60), now).unwrap();
    let (_, authority) = watch::channel(Arc::new(authority));
    let config = Config {
        version: "0.1.0".into(),
        cluster: "test".into(),
        dashboard,
        allowed_hosts: vec!["mesh.example".into()],
        identity_secret: None,
        started_ms: now_ms(),
    };
    let telemetry = Arc::new(Store::new(Limits::default(), None));
    State { tables, telemetry, streams: Arc::default(), authority, login, config }
}

impl Server {
    async fn start() -> Server {
        Server::with(Dashboard::Embedded, Login::Open, World::default()).await
    }

    async fn with(dashboard: Dashboard, login: Login, world: World) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = state(dashboard, login, &world);
        let store = state.telemetry.clone();
        tokio::spawn(serve(listener, state));
        Server { addr, store }
    }

    /// Sends a request as it stands; the whole answer.
    async fn raw(&self, request: &str) -> String {
        let mut conn = TcpStream::connect(self.addr).await.unwrap();
        // A server that has refused may hang up before it has read everything.
        let _ = conn.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(10), conn.read_to_end(&mut answer)).await.expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = format!("GET {path} HTTP/1.1\r\nconnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "host") {
            request += &format!("host: {}\r\n", self.addr);
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        Answer::parse(&self.raw(&format!("{request}\r\n")).await)
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_ascii_lowercase(), body: body.into() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// Word for word: one `'unsafe-inline'` more and the rest means nothing.
const STRICT: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'";

#[tokio::test]
async fn only_known_hosts_and_own_pages_may_read() {
    let server = Server::start().await;
    let own = server.addr.to_string();
    let origin = format!("http://{own}");
    let other_port = "http://127.0.0.1:1".to_owned();
    let cases: &[(&[(&str, &str)], u16)] = &[
        (&[], 200),
        (&[("host", "localhost:50750")], 200),
        (&[("host", "LOCALHOST")], 200),
        (&[("host", "[::1]:8084")], 200),
        (&[("host", "mesh.example")], 200),
        (&[("host", "evil.example")], 403),
        (&[("host", "evil.example:8084")], 403),
        (&[("host", "localhost.evil.example")], 403),
        (&[("host", "10.0.0.1")], 403),
        (&[("host", "")], 403),
        (&[("host", "localhost@evil.example")], 403),
        (&[("host", "localhost"), ("host", "evil.example")], 400),
        (&[("origin", &origin)], 200),
        (&[("origin", "http://evil.example")], 403),
        (&[("origin", "null")], 403),
        (&[("origin", &other_port)], 403),
        (&[("origin", &origin), ("origin", "http://evil.example")], 400),
        (&[("sec-fetch-site", "same-origin")], 200),
        (&[("sec-fetch-site", "none")], 200),
        (&[("sec-fetch-site", "same-site")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
        (&[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], 403),
    ];
    for (headers, status) in cases {
        let answer = server.get("/api/v1/version", headers).await;
        assert_eq!(answer.status, *status, "{headers:?}: {}", answer.body);
        assert!(answer.header("access-control-allow-origin").is_none());
        assert_eq!(answer.header("content-security-policy"), Some(STRICT));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    // A link on another site may open a page, but nothing may embed it.
    let navigate = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    assert_eq!(server.get("/graph", &navigate).await.status, 200);
    assert_eq!(
        server.get("/graph", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]).await.status,
        403
    );
    let without_host = Answer::parse(&server.raw("GET /api/v1/version HTTP/1.0\r\n\r\n").await);
    assert_eq!(without_host.status, 400);
}

#[tokio::test]
async fn everything_is_read_only() {
    let server = Server::start().await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let request = format!(
            "{method} /api/v1/graph HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            server.addr
        );
        let answer = Answer::parse(&server.raw(&request).await);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("get, head")), "{method}");
    }
}

#[tokio::test]
async fn garbage_is_answered_with_a_sentence() {
    let server = Server::start().await;
    let long = format!("/api/v1/graph?ns={}", "a".repeat(10_000));
    let many =
        format!("/api/v1/graph?ns={}", (0..100).map(|i| format!("n{i}")).collect::<Vec<_>>().join(","));
    let cases: &[(&str, u16, &str)] = &[
        ("/api", 404, "/api/v1"),
        ("/api/v2/graph", 404, "/api/v1"),
        ("/api/v1/", 404, "nothing"),
        ("/api/v1/nonsense", 404, "nothing"),
        ("/api/v1/../../etc/passwd", 404, "nothing"),
        ("/api/v1/workloads/..%2f..%2fetc/passwd", 404, "nothing"),
        ("/api/v1/workloads/a/b/c", 404, "nothing"),
        ("/api/v1/workloads/shop/unknown", 404, "no workload shop/unknown"),
        ("/api/v1/graph?window=2m", 400, "window=\"2m\": want 10s, 1m, 5m, 15m or 1h"),
        ("/api/v1/graph?window=-1", 400, "window"),
        ("/api/v1/graph?window=1m&window=5m", 400, "window: given 2 times"),
        ("/api/v1/graph?ns=../..", 400, "ns"),
        ("/api/v1/graph?ns='%3BDROP%20TABLE%20x", 400, "ns"),
        ("/api/v1/graph?ns=%3Cscript%3Ealert(1)%3C/script%3E", 400, "ns"),
        ("/api/v1/graph?ns=up%7B%7D%5B1d%5D", 400, "ns"),
        ("/api/v1/graph?ns=%00%FF", 400, "ns"),
        (&many, 400, "32"),
        (&long, 400, "4096 bytes"),
        ("/api/v1/graph?colour=red", 400, "unknown parameter \"colour\""),
        ("/api/v1/traces?limit=-1", 400, "limit"),
        ("/api/v1/traces?limit=99999999999999999999", 400, "limit"),
        ("/api/v1/traces?min_ms=1e9", 400, "min_ms"),
        ("/api/v1/traces?error=maybe", 400, "error"),
        ("/api/v1/traces?workload=shop", 400, "namespace/name"),
        ("/api/v1/traces/abc", 400, "32 hex digits"),
        ("/api/v1/traces/00000000000000000000000000000000", 400, "hex"),
        ("/api/v1/traces/0123456789abcdef0123456789abcdef", 404, "no trace"),
        ("/api/v1/series", 400, "of is missing"),
        ("/api/v1/series?of=everything", 400, "want all"),
        ("/api/v1/series?of=w:a/b%3Ew:", 400, "of"),
        ("/api/v1/endpoints", 400, "authority is missing"),
        ("/api/v1/endpoints?authority=%0d%0aset-cookie", 400, "authority"),
        ("/api/v1/policy", 400, "want outbound"),
        ("/api/v1/policy?inbound=a/b:0", 400, "namespace/pod:port"),
        ("/api/v1/policy?inbound=a/b:65536", 400, "namespace/pod:port"),
        ("/api/v1/policy?inbound=a/b:80&outbound=c", 400, "want outbound"),
        ("/api/v1/policy?outbound=web.shop:80", 400, "from"),
        ("/api/v1/authz", 400, "to is missing"),
        ("/api/v1/authz?to=shop/web", 404, "no workload"),
        ("/api/v1/graph/stream?window=x", 400, "window"),
        ("/api/v1/workloads/shop/unknown/stream", 404, "no workload"),
        ("/api/v1/stream", 404, "nothing"),
    ];
    for (path, status, says) in cases {
        let answer = server.get(path, &[]).await;
        let error: mesh_api::stream::ApiError =
            serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{path}: {answer:?}"));
        assert_eq!(answer.status, *status, "{path}: {}", error.error);
        assert!(error.error.contains(says), "{path}: {}", error.error);
        assert!(error.error.len() < 400);
    }
    let endless = format!("GET /api/v1/graph?ns={} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(1 << 20));
    assert!([0, 400, 414, 431].contains(&Answer::parse(&server.raw(&endless).await).status));
}

/// Reads events, `name` and `data`, from an open stream.
struct Events(BufReader<TcpStream>);

impl Events {
    async fn open(server: &Server, path: &str, headers: &str) -> Events {
        let mut conn = TcpStream::connect(server.addr).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        conn.write_all(request.as_bytes()).await.unwrap();
        Events(BufReader::new(conn))
    }

    /// The next event; what is in between (chunk sizes, comments, the head) is left out.
    async fn next(&mut self) -> (String, String) {
        let mut name = String::new();
        loop {
            let mut line = String::new();
            let read = timeout(Duration::from_secs(20), self.0.read_line(&mut line)).await;
            assert!(read.expect("an event").unwrap() > 0, "the stream ended");
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.trim().into();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (name, data.trim().into());
            }
        }
    }
}

#[tokio::test]
async fn a_graph_stream_sends_the_topology_once_and_metrics_every_second() {
    let server = Server::start().await;
    let report = || {
        Report::of("shop", "web").responses(&[("direction", "inbound"), ("client_ip", "192.0.2.1")], 5, 3.0)
    };
    server.store.ingest_metrics(report().request(), now_ms());
    let mut events =
        Events::open(&server, "/api/v1/graph/stream?window=10s", "last-event-id: nonsense\r\n").await;
    assert_eq!(events.next().await.0, "hello");
    let (name, topology) = events.next().await;
    assert_eq!(name, "topology");
    let topology: mesh_api::graph::Topology = serde_json::from_str(&topology).unwrap();
    let mut at_ms = 0;
    for _ in 0..3 {
        let (name, metrics) = events.next().await;
        assert_eq!(name, "metrics");
        let metrics: mesh_api::graph::Metrics = serde_json::from_str(&metrics).unwrap();
        assert_eq!((metrics.version, metrics.nodes.len()), (topology.version, topology.nodes.len()));
        assert!(metrics.at_ms > at_ms);
        at_ms = metrics.at_ms;
    }
    // Something new on the map: the topology again, and only then its metrics.
    server.store.ingest_metrics(
        Report::of("shop", "cart").responses(&[("direction", "inbound")], 1, 1.0).request(),
        now_ms(),
    );
    loop {
        let (name, data) = events.next().await;
        if name == "topology" {
            let newer: mesh_api::graph::Topology = serde_json::from_str(&data).unwrap();
            assert!(newer.version != topology.version && newer.nodes.len() > topology.nodes.len());
            break;
        }
        assert_eq!(name, "metrics");
    }
}

#[tokio::test]
async fn a_stream_is_silent_while_nothing_changes() {
    let server = Server::start().await;
    let mut events = Events::open(&server, "/api/v1/workloads/stream", "").await;
    assert_eq!(events.next().await.0, "hello");
    assert_eq!(events.next().await.0, "workloads");
    let more = timeout(Duration::from_millis(2_500), events.next()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn deep_links_are_answered_by_the_page() {
    let server = Server::start().await;
    for (path, base) in
        [("/", "./"), ("/graph?ns=a", "./"), ("/workloads/shop/web.v1", "../../"), ("/index.html", "./")]
    {
        let answer = server.get(path, &[]).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("text/html; charset=utf-8")),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        assert!(answer.body.contains(&format!("<base href=\"{base}\">")), "{path}: {}", answer.body);
    }
    assert_eq!(server.get("/pkg/gone-12345678.js", &[]).await.status, 404);
}

#[tokio::test]
async fn a_folder_is_served_compressed_and_never_left() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::write(parent.path().join("secret"), "secret").unwrap();
    let folder: PathBuf = parent.path().join("dist");
    std::fs::create_dir_all(folder.join("pkg")).unwrap();
    for (name, content) in [
        ("index.html", "<base href=\"/\">page"),
        ("BUILD", "abc\n"),
        ("pkg/app-1.js", "plain"),
        ("pkg/app-1.js.br", "brotli"),
        ("pkg/app-1.js.gz", "gzip"),
    ] {
        std::fs::write(folder.join(name), content).unwrap();
    }
    let server = Server::with(Dashboard::Folder(Arc::new(folder)), Login::Open, World::default()).await;
    for (accepts, body) in [
        ("gzip, deflate, br, zstd", "brotli"),
        ("gzip;q=0.8, br;q=0", "gzip"),
        ("identity", "plain"),
        ("brotli, x-gzip", "plain"),
    ] {
        let answer = server.get("/pkg/app-1.js", &[("accept-encoding", accepts)]).await;
        assert_eq!(answer.body, body, "{accepts}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
    for path in [
        "/../secret",
        "/pkg/../../secret",
        "/..%2fsecret",
        "/pkg/%2e%2e/%2e%2e/secret",
        "//secret",
        "/pkg/.hidden",
    ] {
        assert!(!server.get(path, &[]).await.body.contains("secret"), "{path}");
    }
    assert!(server.get("/api/v1/version", &[]).await.body.contains("\"build\":\"abc\""));
}

/// The mesh of two namespaces, in which Alice may see but one; both talk to each other.
#[tokio::test]
async fn a_user_sees_their_own_namespaces_and_nothing_of_others() {
    let pod = |namespace: &str, name: &str, ip: &str| {
        let pod = serde_json::json!({
            "metadata": {"namespace": namespace, "name": name, "labels": {"mesh.dev/control-plane-ns": "mesh"}},
            "spec": {"containers": [{"name": "app", "ports": [{"containerPort": 8080}]}], "serviceAccountName": name},
            "status": {"phase": "Running", "podIP": ip},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    };
    // Slices that people write may lead anywhere.
    let service = serde_json::json!({
        "metadata": {"namespace": "shop", "name": "far"}, "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    let slice = serde_json::json!({
        "metadata": {"namespace": "shop", "name": "far-1", "labels": {"kubernetes.io/service-name": "far"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.2"]}],
    });
    let world = World {
        pods: Arc::new(vec![pod("shop", "web", "10.0.0.1"), pod("bank", "vault", "10.0.0.2")]),
        services: Arc::new(vec![Arc::new(serde_json::from_value(service).unwrap())]),
        endpoint_slices: Arc::new(vec![Arc::new(serde_json::from_value(slice).unwrap())]),
        ..World::default()
    };
    let unmeshed = |namespace: &str, name: &str| {
        let [namespace, kind, name] = [namespace, "Deployment", name].map(str::to_owned);
        Unmeshed { namespace, kind, name, pods: 1, restart: false, in_vain: false }.finding()
    };
    let world =
        World { unmeshed: Arc::new(vec![unmeshed("shop", "late"), unmeshed("bank", "vault")]), ..world };
    let login = Login::cluster(login::tests::server().client());
    let server = Server::with(Dashboard::Embedded, login, world).await;
    let report = |namespace: &str, pod: &str| {
        Report::of(namespace, pod).responses(&[("direction", "inbound"), ("client_ip", "192.0.2.1")], 5, 3.0)
    };
    server.store.ingest_metrics(report("shop", "web").request(), now_ms());
    server.store.ingest_metrics(report("bank", "vault").request(), now_ms());

    let alice = [("authorization", "Bearer alice")];
    for path in [
        "/api/v1/overview",
        "/api/v1/graph",
        "/api/v1/graph?ns=bank",
        "/api/v1/workloads",
        "/api/v1/workloads?ns=bank",
        "/api/v1/routes",
        "/api/v1/series?of=all",
        "/api/v1/traces",
        "/api/v1/checks",
        "/api/v1/identities",
        "/api/v1/identities?ns=bank",
        "/api/v1/version",
    ] {
        let answer = server.get(path, &alice).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(!answer.body.contains("bank\"") && !answer.body.contains("vault"), "{path}: {}", answer.body);
        let all = server.get(path, &[("authorization", "Bearer admin")]).await;
        assert_eq!(all.status, 200, "{path}: {}", all.body);
    }
    assert!(server.get("/api/v1/checks", &alice).await.body.contains("Deployment shop/late"));
    for path in ["/api/v1/authz?to=shop/web", "/api/v1/endpoints?authority=far.shop:80"] {
        let whole = server.get(path, &[("authorization", "Bearer admin")]).await.body;
        assert!(whole.contains("bank/vault"), "{path}: {whole}");
        let part = server.get(path, &alice).await.body;
        let has_rows = part.contains("shop/web") || part.contains("10.0.0.2");
        assert!(has_rows && !part.contains("bank") && !part.contains("vault"), "{path}: {part}");
    }
    let workloads = |answer: Answer| {
        let list: mesh_api::workload::WorkloadList = serde_json::from_str(&answer.body).unwrap();
        list.workloads.into_iter().map(|row| row.name).collect::<Vec<_>>()
    };
    assert_eq!(workloads(server.get("/api/v1/workloads", &alice).await), ["web"]);
    let admin = [("authorization", "Bearer admin")];
    assert_eq!(workloads(server.get("/api/v1/workloads", &admin).await), ["vault", "web"]);

    for (path, status) in [
        ("/api/v1/workloads/shop/web", 200),
        ("/api/v1/workloads/bank/vault", 404),
        ("/api/v1/endpoints?authority=vault.bank:80", 403),
        ("/api/v1/endpoints?authority=web.shop:80", 200),
        ("/api/v1/endpoints?authority=10.0.0.2:80", 403),
        ("/api/v1/policy?inbound=bank/vault:80", 403),
        ("/api/v1/policy?outbound=vault.bank:80&from=shop/web", 403),
        ("/api/v1/policy?outbound=10.0.0.2:80&from=shop/web", 403),
        ("/api/v1/authz?to=bank/vault", 403),
        ("/api/v1/authz?to=shop/web&from=bank/vault", 403),
        ("/api/v1/authz?to=shop/web", 200),
        ("/api/v1/identities/bank/vault", 403),
        ("/api/v1/checks?ns=shop", 200),
        ("/api/v1/checks?ns=bank", 403),
        ("/api/v1/checks?ns=shop,nowhere", 403),
        ("/api/v1/checks/stream?ns=bank", 403),
    ] {
        assert_eq!(server.get(path, &alice).await.status, status, "{path}");
    }
    for (namespace, status, says) in [("bank", 200, "vault"), ("nowhere", 404, "no namespace \\\"nowhere")] {
        let answer = server.get(&format!("/api/v1/checks?ns={namespace}"), &admin).await;
        assert_eq!((answer.status, answer.body.contains(says)), (status, true), "{}", answer.body);
    }
    for path in ["/api/v1/graph", "/api/v1/graph/stream", "/api/v1/version", "/api/v1/identities/shop/web"] {
        let answer = server.get(path, &[]).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("bearer")), "{path}");
    }
    assert_eq!(server.get("/", &[]).await.status, 200, "the page itself holds nothing");
    let mut events = Events::open(&server, "/api/v1/graph/stream", "authorization: Bearer alice\r\n").await;
    assert_eq!(events.next().await.0, "hello");
    let (_, topology) = events.next().await;
    assert!(topology.contains("web") && !topology.contains("vault"), "{topology}");
}
