//! The admin server: `/live` and `/ready` for whoever can reach it (a kubelet proves nothing), `/metrics` for the pod itself and
//! the networks that may scrape it, `POST /shutdown` for the pod itself. Runs on the control thread, so that it answers while the
//! workers are busy, and until the process ends.
//!
//! Not here, on purpose: anything that shows the environment or changes the proxy from afar.

mod places;

use crate::{
    accept::{self, Share},
    config,
    ready::Ready,
    signal::Shutdown,
    telemetry::{Telemetry, metrics::exposition},
};
use anyhow::Context as _;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use places::Places;
use std::{convert::Infallible, io::Write as _, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, time};

/// A client that has not sent its request by then is cut off.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for the whole exchange; a large `/metrics` over a slow line included.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// A request has no body, and a head of a few lines.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// After `accept` failed (no file descriptors left), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Answer = Response<BoxBody<Bytes, Infallible>>;

#[derive(Clone, Debug)]
pub struct Admin {
    pub ready: Ready,
    pub telemetry: Telemetry,
    /// Who may read metrics from afar.
    pub metrics_networks: Vec<IpNet>,
    /// `None`: there is no `/shutdown`.
    pub shutdown: Option<Shutdown>,
}

/// Listens, and serves as a task of the running runtime until the process ends.
pub async fn start(
    config: &config::Admin,
    ready: Ready,
    telemetry: Telemetry,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let listeners = accept::listen(config.listen, Share::Nobody)
        .with_context(|| format!("listen on {} for admin (ADMIN_LISTEN_ADDR)", config.listen))?;
    let shutdown = config.shutdown_enabled.then(|| shutdown.clone());
    let metrics_networks = config.metrics_networks.clone();
    let admin = Admin { ready, telemetry, metrics_networks, shutdown };
    for listener in listeners {
        tokio::spawn(serve(listener, admin.clone()));
    }
    Ok(())
}

/// Serves until it is dropped. One request per connection: probes and scrapes are rare.
pub async fn serve(listener: TcpListener, admin: Admin) {
    serve_within(HEADER_TIMEOUT, listener, admin).await;
}

async fn serve_within(header_timeout: Duration, listener: TcpListener, admin: Admin) {
    let admin = Arc::new(admin);
    let places = Arc::<Places>::default();
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin: accept");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Waiting would make others wait behind it.
        let Some(place) = places.take(client.ip()) else { continue };
        let admin = admin.clone();
        tokio::spawn(async move {
            let service =
                service_fn(|req| std::future::ready(Ok::<_, Infallible>(admin.answer(&req, client))));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(header_timeout).keep_alive(false);
            server.max_buf_size(MAX_HEAD_BYTES);
            // Errors are the client's: gone, slow, or no HTTP.
            let _ =
                time::timeout(EXCHANGE_TIMEOUT, server.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}

impl Admin {
    fn answer<B>(&self, req: &Request<B>, client: SocketAddr) -> Answer {
        match req.uri().path() {
            "/live" => get(req, || text(StatusCode::OK, "live\n")),
            "/ready" => get(req, || self.ready()),
            "/metrics" => get(req, || match self.may_scrape(client) {
                true => self.metrics(takes_gzip(req.headers())),
                false => text(StatusCode::FORBIDDEN, "not from this address (ADMIN_METRICS_NETWORKS)\n"),
            }),
            "/shutdown" => match &self.shutdown {
                Some(shutdown) => post_from_loopback(req, client, || {
                    shutdown.request();
                    text(StatusCode::OK, "shutting down\n")
                }),
                None => text(StatusCode::NOT_FOUND, "shutdown is not enabled (SHUTDOWN_ENDPOINT_ENABLED)\n"),
            },
            _ => {
                text(StatusCode::NOT_FOUND, "no such page; there are /live, /ready, /metrics and /shutdown\n")
            }
        }
    }

    fn may_scrape(&self, client: SocketAddr) -> bool {
        // A claim to be `::ffff:127.0.0.1` is as good as that of any other address, which is to say not loopback.
        let ip = client.ip().to_canonical();
        client.ip().is_loopback() || self.metrics_networks.iter().any(|network| network.contains(&ip))
    }

    fn ready(&self) -> Answer {
        let pending = self.ready.pending();
        if pending.is_empty() {
            return text(StatusCode::OK, "ready\n");
        }
        text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", pending.join(", ")))
    }

    fn metrics(&self, gzip: bool) -> Answer {
        let pages = exposition::pages(&self.telemetry);
        let mut response = match gzip {
            true => streamed(Gzip::of(pages)),
            false => streamed(pages.map(Bytes::from)),
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(exposition::CONTENT_TYPE));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// A page is never whole in memory, packed or not.
fn streamed(pages: impl Iterator<Item = Bytes> + Send + Sync + 'static) -> Answer {
    let frames = pages.map(|page| Ok(Frame::data(page)));
    Response::new(StreamBody::new(stream::iter(frames)).boxed())
}

/// Listed, and not with `q=0`.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|item| {
        let (coding, weight) = item.split_once(';').unwrap_or((item, "q=1"));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        coding.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Pages, packed one by one.
struct Gzip<I> {
    pages: I,
    /// `None` after the end.
    packer: Option<GzEncoder<Vec<u8>>>,
}

impl<I: Iterator<Item = String>> Gzip<I> {
    fn of(pages: I) -> Gzip<I> {
        Gzip { pages, packer: Some(GzEncoder::new(Vec::new(), Compression::fast())) }
    }
}

impl<I: Iterator<Item = String>> Iterator for Gzip<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let packer = self.packer.as_mut()?;
        for page in self.pages.by_ref() {
            packer.write_all(page.as_bytes()).expect("a Vec takes everything");
            if !packer.get_ref().is_empty() {
                return Some(std::mem::take(packer.get_mut()).into());
            }
        }
        let rest = self.packer.take()?.finish().expect("a Vec takes everything");
        Some(rest.into())
    }
}

fn get<B>(req: &Request<B>, answer: impl FnOnce() -> Answer) -> Answer {
    match *req.method() {
        // hyper leaves a HEAD's body out.
        Method::GET | Method::HEAD => answer(),
        _ => wrong_method("GET, HEAD"),
    }
}

fn post_from_loopback<B>(req: &Request<B>, client: SocketAddr, answer: impl FnOnce() -> Answer) -> Answer {
    if req.method() != Method::POST {
        return wrong_method("POST");
    }
    // As it stands, not made canonical: `::ffff:127.0.0.1` is what an IPv6 packet can claim, and an old kernel believes it.
    if !client.ip().is_loopback() {
        return text(StatusCode::FORBIDDEN, "allowed from the pod itself only\n");
    }
    // A page in somebody's browser can post to localhost, but not without saying where it is from.
    if req.headers().contains_key(header::ORIGIN) {
        return text(StatusCode::FORBIDDEN, "not for browsers\n");
    }
    answer()
}

fn wrong_method(allow: &'static str) -> Answer {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("allowed: {allow}\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    fn admin(shutdown: Option<Shutdown>) -> Admin {
        let metrics_networks = vec!["10.1.0.0/16".parse().unwrap()];
        Admin { ready: Ready::default(), telemetry: Telemetry::new(0.0, false).0, metrics_networks, shutdown }
    }

    /// Status and body of an answer.
    async fn ask(admin: &Admin, method: &str, path: &str, client: &str) -> (u16, String) {
        let req = Request::builder().method(method).uri(path).body(()).unwrap();
        let (head, body) = admin.answer(&req, client.parse().unwrap()).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    const LOCAL: &str = "127.0.0.1:1";

    #[tokio::test]
    async fn ready_names_what_is_missing() {
        let admin = admin(None);
        let (identity, _listeners) = (admin.ready.block("identity"), admin.ready.block("listeners"));
        assert_eq!(
            ask(&admin, "GET", "/ready", LOCAL).await,
            (503, "not ready: identity, listeners\n".into())
        );
        drop((identity, _listeners));
        assert_eq!(ask(&admin, "GET", "/ready", LOCAL).await, (200, "ready\n".into()));
        assert_eq!(ask(&admin, "GET", "/live", LOCAL).await.0, 200);
    }

    /// reliability.md T18.
    #[tokio::test]
    async fn who_may_do_what() {
        let enabled = admin(Some(Shutdown::default()));
        for (method, path, client, status) in [
            ("GET", "/live", "10.0.0.9:1", 200),
            ("HEAD", "/ready", "10.0.0.9:1", 200),
            ("GET", "/metrics", LOCAL, 200),
            ("GET", "/metrics", "[::1]:1", 200),
            ("GET", "/metrics", "10.1.0.9:1", 200),
            ("GET", "/metrics", "[::ffff:10.1.0.9]:1", 200),
            ("GET", "/metrics", "10.0.0.9:1", 403),
            ("GET", "/metrics", "[::ffff:127.0.0.1]:1", 403),
            ("GET", "/metrics", "[fe80::1]:1", 403),
            ("POST", "/metrics", LOCAL, 405),
            ("DELETE", "/ready", LOCAL, 405),
            ("GET", "/shutdown", LOCAL, 405),
            ("GET", "/shutdown", "10.0.0.9:1", 405),
            ("POST", "/shutdown", "10.0.0.9:1", 403),
            ("POST", "/shutdown", "[::ffff:127.0.0.1]:1", 403),
            ("POST", "/shutdown", "[::ffff:10.0.0.9]:1", 403),
            ("POST", "/shutdown", "[fe80::1]:1", 403),
            ("GET", "/env.json", LOCAL, 404),
            ("PUT", "/proxy-log-level", LOCAL, 404),
            ("GET", "/debug/pprof", LOCAL, 404),
            ("GET", "/metrics/", LOCAL, 404),
            ("POST", "/shutdown", LOCAL, 200),
            ("POST", "/shutdown", "[::1]:1", 200),
        ] {
            assert_eq!(ask(&enabled, method, path, client).await.0, status, "{method} {path} from {client}");
        }
        assert_eq!(ask(&admin(None), "POST", "/shutdown", LOCAL).await.0, 404);
    }

    #[test]
    fn a_web_page_cannot_shut_the_proxy_down() {
        let req = Request::post("/shutdown").header("origin", "http://evil.example").body(()).unwrap();
        let answer = admin(Some(Shutdown::default())).answer(&req, LOCAL.parse().unwrap());
        assert_eq!(answer.status(), 403);
    }

    /// Sends bytes to a real listener and returns all that comes back.
    async fn exchange(bytes: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, admin(None)));
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        server.abort();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn metrics_are_served_as_prometheus_wants_them() {
        let answer = exchange(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: text/plain; version=0.0.4\r\n"), "{answer}");
        for family in
            ["proxy_build_info{version=\"", "process_resident_memory_bytes ", "process_start_time_seconds "]
        {
            assert!(answer.contains(family), "{family} in {answer}");
        }
    }

    #[tokio::test]
    async fn metrics_are_packed_for_who_asks() {
        for (accepts, packed) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0, deflate", false),
            ("gzip; q=0.0", false),
            ("gzipped", false),
        ] {
            let req = Request::get("/metrics").header("accept-encoding", accepts).body(()).unwrap();
            let (head, body) = admin(None).answer(&req, LOCAL.parse().unwrap()).into_parts();
            assert_eq!(head.headers.contains_key("content-encoding"), packed, "{accepts}");
            let body = body.collect().await.unwrap().to_bytes();
            let mut page = Vec::new();
            match packed {
                true => std::io::Read::read_to_end(&mut GzDecoder::new(&*body), &mut page).map(drop).unwrap(),
                false => page.extend_from_slice(&body),
            }
            let page = String::from_utf8(page).unwrap();
            assert!(page.ends_with('\n') && page.contains("proxy_build_info{"), "{page}");
        }
    }

    #[tokio::test]
    async fn what_is_no_http_is_refused() {
        assert!(
            exchange(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 400")
        );
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(serve_within(Duration::from_millis(20), listener, admin(None)));
        let mut client = TcpStream::connect(addr).await.unwrap();
        client.write_all(b"GET /live HTTP/1.1\r\nhost:").await.unwrap();
        let mut answer = Vec::new();
        let read = time::timeout(Duration::from_secs(5), client.read_to_end(&mut answer)).await;
        assert!(read.is_ok_and(|read| read.is_ok()), "still open");
        server.abort();
    }
}
