//! The peers' side: who may do what, and what the application learns of them.

use crate::{
    policy::http::{PathMatch, RequestMatch},
    policy::inbound::{Authentication, Authorization, HttpRoute, HttpRule, Policy, Protocol},
    telemetry::trace::SpanKind,
    testing::*,
    tls::testing::Authority,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";

fn only(id: &str) -> Policy {
    allow(Authentication::TlsAuthenticated { identities: vec![id.into()], suffixes: vec![] })
}

fn anybody_meshed() -> Policy {
    allow(Authentication::TlsAuthenticated { identities: vec![], suffixes: vec!["".into()] })
}

/// Rows H-40 to H-42: the application learns who it is, from us alone.
#[test]
fn the_client_is_named_by_its_certificate_alone() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        let forged = b"GET / HTTP/1.1\r\nHost: web\r\nL5D-Client-Id: evil\r\nl5d_client_id: evil\r\nConnection: l5d-client-id\r\n\r\n";
        assert_eq!(status(&exchange(mesh.app, forged).await), 200);
        let got = origin.text();
        assert!(got.contains(&format!("l5d-client-id: {CLIENT}\r\n")) && !got.contains("evil"), "{got}");
        origin.clear();
        assert_eq!(status(&exchange(mesh.direct, forged).await), 200);
        assert!(!origin.text().contains("client"), "{}", origin.text());
    });
}

/// A refusal is a part of the trace: whoever looks for the failed request finds who said no.
#[test]
fn a_refused_request_has_a_span() {
    run(async {
        let origin = Origin::start(OK).await;
        let mut mesh = Mesh::start(origin.addr).await;
        mesh.inbound.send_replace(Arc::new(deny()));
        let traced = b"GET / HTTP/1.1\r\nHost: web\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";
        assert_eq!(status(&exchange(mesh.direct, traced).await), 403);
        let span = time::timeout(PATIENCE, mesh.spans.recv()).await.unwrap().unwrap();
        assert_eq!(
            (span.kind, span.status, span.error, span.context.trace.to_string().as_str()),
            (SpanKind::Server, Some(403), Some("unauthorized"), "4bf92f3577b34da6a3ce929d0e0e4736")
        );
    });
}

#[test]
fn a_change_of_policy_acts_on_the_next_request_of_an_open_connection() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        let (mut stranger, mut peer) =
            (TcpStream::connect(mesh.direct).await.unwrap(), TcpStream::connect(mesh.app).await.unwrap());
        for (policy, stranger_gets, peer_gets) in [
            (allow(Authentication::Unauthenticated), 200, 200),
            (anybody_meshed(), 403, 200),
            (only(CLIENT), 403, 200),
            (only("other.demo.serviceaccount.identity.mesh.cluster.local"), 403, 403),
            (deny(), 403, 403),
            (allow(Authentication::Unauthenticated), 200, 200),
        ] {
            mesh.inbound.send_replace(Arc::new(policy));
            // The worker hears of it in its own time.
            time::sleep(Duration::from_millis(50)).await;
            for (client, want) in [(&mut stranger, stranger_gets), (&mut peer, peer_gets)] {
                client.write_all(GET).await.unwrap();
                assert_eq!(status(&read_response(client).await), want);
            }
        }
    });
}

#[test]
fn a_route_may_let_in_more() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        let everybody: Arc<[Authorization]> = allow(Authentication::Unauthenticated).authorizations;
        let routes = Arc::new([
            route("health", prefix("/health"), everybody),
            route("all", prefix("/"), Arc::new([])),
        ]);
        let protocol = Protocol::Detect { timeout: Duration::from_secs(10), routes };
        mesh.inbound.send_replace(Arc::new(Policy { protocol, ..deny() }));
        let health = b"GET /health HTTP/1.1\r\nHost: web\r\n\r\n";
        assert_eq!(status(&exchange(mesh.direct, health).await), 200);
        assert_eq!(status(&exchange(mesh.direct, GET).await), 403);
    });
}

fn route(name: &str, path: PathMatch, authorizations: Arc<[Authorization]>) -> HttpRoute {
    let matches = vec![RequestMatch { path, ..RequestMatch::default() }];
    HttpRoute {
        meta: meta(if name == "probe" { "default" } else { "HTTPRoute" }, name),
        hosts: vec![],
        authorizations,
        rules: vec![HttpRule { matches, filters: vec![] }],
    }
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.into())
}

/// Nobody but those of its routes.
fn routed(routes: Vec<HttpRoute>) -> Policy {
    let protocol = Protocol::Detect { timeout: Duration::from_secs(10), routes: routes.into() };
    Policy { protocol, routes_add: true, ..deny() }
}

fn probe(path: &str) -> HttpRoute {
    let mut everybody = allow(Authentication::Unauthenticated).authorizations.to_vec();
    everybody[0].meta = meta("default", "probe");
    route("probe", PathMatch::Exact(path.into()), everybody.into())
}

/// Somebody else's narrower rule takes nothing away, from kubelet neither.
#[test]
fn where_routes_add_each_of_them_may_let_in() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        let others = only("other.demo.serviceaccount.identity.mesh.cluster.local").authorizations;
        let asks = async |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n");
            let peer = status(&exchange(mesh.app, request.as_bytes()).await);
            (peer, status(&exchange(mesh.direct, request.as_bytes()).await))
        };
        let policy = || {
            routed(vec![
                route("items", prefix("/items"), others.clone()),
                route("health", PathMatch::Exact("/health".into()), others.clone()),
                route("all", prefix("/"), only(CLIENT).authorizations),
                probe("/health"),
            ])
        };
        mesh.inbound.send_replace(Arc::new(policy()));
        assert_eq!(asks("/items/1").await, (200, 403));
        assert_eq!(asks("/health").await, (200, 200));
        mesh.inbound.send_replace(Arc::new(Policy { routes_add: false, ..policy() }));
        time::timeout(PATIENCE, async { while asks("/items/1").await != (403, 403) {} }).await.unwrap();
        assert_eq!(asks("/health").await, (403, 403), "the most specific one alone");
    });
}

/// A path that two readers may understand differently is refused where it decides, and passes where it does not.
#[test]
fn an_ambiguous_path_passes_where_no_route_has_to_let_it_in() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        let odd = b"GET /sale/../50%off HTTP/1.1\r\nHost: web\r\n\r\n";
        let everybody = allow(Authentication::Unauthenticated).authorizations;
        let of_routes = |all| routed(vec![probe("/health"), route("all", prefix("/"), all)]);
        let of_port = Policy { authorizations: everybody.clone(), ..of_routes(Arc::new([])) };
        mesh.inbound.send_replace(Arc::new(of_port));
        assert_eq!(status(&exchange(mesh.direct, odd).await), 200);
        assert!(origin.text().starts_with("GET /sale/../50%off "), "{}", origin.text());
        mesh.inbound.send_replace(Arc::new(of_routes(everybody)));
        let refused = async { while status(&exchange(mesh.direct, odd).await) != 400 {} };
        time::timeout(PATIENCE, refused).await.unwrap();
    });
}

#[test]
fn a_probe_opens_no_tunnel() {
    run(async {
        let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let origin = Origin::start(switch).await;
        let mesh = Mesh::start(origin.addr).await;
        let of_peers = || route("all", prefix("/"), only(CLIENT).authorizations);
        mesh.inbound.send_replace(Arc::new(routed(vec![of_peers(), probe("/health")])));
        let upgrade =
            b"GET /health HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(status(&exchange(mesh.direct, upgrade).await), 403);
        assert_eq!(origin.text(), "");
        // Nor does it close one to those who may have it, for longer than they may.
        let mut peer = TcpStream::connect(mesh.app).await.unwrap();
        peer.write_all(upgrade).await.unwrap();
        assert_eq!(status(&read_response(&mut peer).await), 101);
        mesh.inbound.send_replace(Arc::new(routed(vec![probe("/health")])));
        let end = time::timeout(PATIENCE, peer.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    });
}

#[test]
fn a_tunnel_is_cut_when_policy_says_so() {
    run(async {
        let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let origin = Origin::start(switch).await;
        let mesh = Mesh::start(origin.addr).await;
        let allowed = || routed(vec![route("all", prefix("/"), only(CLIENT).authorizations)]);
        mesh.inbound.send_replace(Arc::new(allowed()));
        let mut client = TcpStream::connect(mesh.app).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(status(&read_response(&mut client).await), 101);
        // Another policy that says the same is no reason.
        mesh.inbound.send_replace(Arc::new(allowed()));
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert_eq!(status(&read_response(&mut client).await), 101, "the application's own words");
        mesh.inbound.send_replace(Arc::new(deny()));
        let end = time::timeout(PATIENCE, client.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    });
}

#[test]
fn what_policy_says_of_a_port_is_waited_for_but_not_for_ever() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        let unanswered = || Arc::new(Policy { assumed: true, ..deny() });
        mesh.inbound.send_replace(unanswered());
        let subscribed = mesh.inbound.receiver_count();
        let answer = async {
            while mesh.inbound.receiver_count() == subscribed {
                tokio::task::yield_now().await;
            }
            mesh.inbound.send_replace(Arc::new(allow(Authentication::Unauthenticated)));
        };
        let (response, ()) = tokio::join!(exchange(mesh.direct, GET), answer);
        assert_eq!(status(&response), 200);

        let mesh = Mesh::start(origin.addr).await;
        mesh.inbound.send_replace(unanswered());
        let asked = Instant::now();
        assert_eq!(status(&exchange(mesh.direct, GET).await), 403);
        assert!(asked.elapsed() >= Duration::from_secs(1), "refused after {:?}", asked.elapsed());
    });
}

#[test]
fn an_opaque_connection_is_refused_and_cut_when_policy_says_so() {
    run(async {
        let origin = Origin::with(|mut socket, _| async move {
            let (mut read, mut write) = socket.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        let mut client = TcpStream::connect(mesh.direct).await.unwrap();
        client.write_all(b"\0\0\0\0").await.unwrap();
        let mut echo = [0; 4];
        client.read_exact(&mut echo).await.unwrap();
        mesh.inbound.send_replace(Arc::new(anybody_meshed()));
        let ended = time::timeout(PATIENCE, client.read(&mut echo)).await.expect("is cut");
        assert!(matches!(ended, Ok(0) | Err(_)));
        let mut client = TcpStream::connect(mesh.direct).await.unwrap();
        client.write_all(b"\0\0\0\0").await.unwrap();
        let ended = time::timeout(PATIENCE, client.read(&mut echo)).await.expect("is refused");
        assert!(matches!(ended, Ok(0) | Err(_)));
    });
}

/// Row P-03, T7: what began like HTTP does not get past HTTP's rules as something else; and an HTTP port takes nothing else.
#[test]
fn an_http_port_takes_nothing_else() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start(origin.addr).await;
        let policy =
            Policy { protocol: Protocol::Http1(Arc::new([])), ..allow(Authentication::Unauthenticated) };
        mesh.inbound.send_replace(Arc::new(policy));
        assert_eq!(exchange(mesh.direct, b"\0\0\0\0").await, "");
        assert_eq!(exchange(mesh.direct, b"SSH-2.0-x\r\n").await, "");
        assert_eq!(origin.text(), "");
        assert_eq!(status(&exchange(mesh.direct, GET).await), 200);
    });
}

/// Row P-11: a transport header cannot lead back to us.
#[test]
fn a_connection_to_ourselves_is_refused() {
    run(async {
        let origin = Origin::start(OK).await;
        let mesh = Mesh::start("127.0.0.1:4143".parse().unwrap()).await;
        let response = exchange(mesh.app, GET).await;
        assert!(status(&response) >= 500, "{response}");
        assert_eq!(origin.text(), "");
    });
}

/// Rows O-01, O-03, O-08: a server's ambiguous answer is made plain.
#[test]
fn what_the_application_answers_is_made_plain() {
    run(async {
        let answer = "HTTP/1.1 200 OK\r\nconnection: x-secret\r\nx-secret: 1\r\nkeep-alive: timeout=5\r\nl5d-proxy-error: forged\r\ncontent-length: 50\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        let origin = Origin::start(answer).await;
        let mesh = Mesh::start(origin.addr).await;
        for addr in [mesh.direct, mesh.app] {
            let response = exchange(addr, GET).await;
            assert_eq!(status(&response), 200, "{response}");
            for gone in ["x-secret", "keep-alive", "forged", "content-length"] {
                assert!(!response.contains(gone), "{gone} in {response}");
            }
        }
    });
}

/// Row O-02, O-11: an answer that is none.
#[test]
fn an_unreadable_answer_is_502() {
    run(async {
        for answer in [
            "nonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        ] {
            let origin = Origin::start(answer).await;
            let mesh = Mesh::start(origin.addr).await;
            assert_eq!(status(&exchange(mesh.app, GET).await), 502, "{answer:?}");
        }
        let origin = Origin::with(|mut socket, got| async move {
            read_request(&mut socket, &got).await;
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        assert_eq!(status(&exchange(mesh.app, GET).await), 502);
    });
}

/// Catalogue S-07: TLS for any other name than ours is the application's, to the byte.
#[test]
fn tls_for_another_name_passes_untouched() {
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            let mut hello = [0; 4_096];
            let n = socket.read(&mut hello).await.unwrap();
            got.push(&hello[..n]);
            socket.write_all(b"the application").await.unwrap();
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        let config = crate::tls::configs::anonymous_client(&Authority::default().roots()).unwrap();
        let hello = |name: &str| {
            let name = name.to_owned().try_into().unwrap();
            let mut client = rustls::ClientConnection::new(Arc::new(config.clone()), name).unwrap();
            let mut hello = vec![];
            client.write_tls(&mut hello).unwrap();
            hello
        };
        let patched = |with: u8| {
            let mut hello = hello(SERVER);
            let at = hello.windows(SERVER.len()).position(|w| w == SERVER.as_bytes()).unwrap();
            hello[at] = with;
            hello
        };
        for (what, hello) in [
            ("another name", hello("other.demo.example")),
            ("a longer one", hello(&format!("x.{SERVER}"))),
            ("an address", hello("10.0.0.1")),
            ("no UTF-8", patched(0xff)),
            ("a NUL", patched(0)),
        ] {
            origin.clear();
            assert_eq!(exchange(mesh.direct, &hello).await, "the application", "{what}");
            assert!(origin.got.borrow().contains(&hello), "{what}");
        }
        // Names in TLS do not know capitals; ours is answered by us.
        origin.clear();
        let (mut client, mut first) = (TcpStream::connect(mesh.direct).await.unwrap(), [0]);
        client.write_all(&patched(b'W')).await.unwrap();
        client.read_exact(&mut first).await.unwrap();
        assert_eq!(first, [0x16]);
        assert_eq!(origin.text(), "");
    });
}
