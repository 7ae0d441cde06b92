//! The hop between two proxies: mutual TLS or nothing, and nothing readable.

use http_body_util::BodyExt;
use linkerd2_proxy_api::inbound;
use mesh_tests::{
    client::{self, Conn, raw},
    control_plane::message::{self, Client, authorization},
    load::{Load, failures},
    origin::{self, tcp},
    pair::{PORT, Pair, WEB, client_pod, endpoint, server_pod},
    peer::{self, ALPN, TransportHeader},
    pki::{Ca, Leaf, Validity},
    story::{run, run_alone},
    wait::{self, SOON},
};
use rustls::ClientConfig;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
};

#[test]
fn nothing_of_a_request_or_response_is_readable_between_two_proxies() {
    run(async || {
        let pair = Pair::start().await;
        let relay = pair.over_relay().await;
        let mut request = client::to(&format!("http://web.demo:{PORT}/secret-path"));
        request.headers_mut().insert("x-secret-header", "secret-value".parse().unwrap());
        pair.send(request).await.is(200);
        assert_eq!(pair.origin.last().header("x-secret-header"), "secret-value");
        for text in ["secret", "l5d-", "HTTP/1.1", "PRI * HTTP", "traceparent", "web.demo:8080"] {
            assert!(!relay.has_passed(text), "{text:?} stands in the bytes between the proxies");
        }
        // The name that is asked for in the clear is the peer's identity, as everywhere in TLS.
        assert!(relay.has_passed(&server_pod().identity()));
    });
}

#[test]
fn an_endpoint_with_another_identity_gets_no_request() {
    run(async || {
        let pair = Pair::start().await;
        let mut wrong = endpoint(&pair.server.pod);
        wrong.identity = Some("ratings.demo.serviceaccount.identity.mesh.cluster.local".into());
        pair.control_plane.destination(WEB).set(message::add([wrong]));
        no_proof(&pair).await;
        assert_eq!(pair.origin.count(), 0);
    });
}

/// Requests to endpoints that all are not who they should be: each is told so, within a second; also while the proxy lets them rest.
pub(super) async fn no_proof(pair: &Pair) {
    for _ in 0..5 {
        let start = Instant::now();
        let reply = pair.get("/secret").await.is(502);
        assert_eq!(reply.header("l5d-proxy-error"), "endpoint could not prove its identity");
        assert!(start.elapsed() <= Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

/// Whoever stands at a meshed endpoint's address without TLS must not even see a plaintext request.
#[test]
fn an_endpoint_that_should_be_meshed_is_never_spoken_to_in_plaintext() {
    run(async || {
        let pair = Pair::start().await;
        let impostor =
            tcp::greets("127.0.3.3:4143".parse().unwrap(), b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await;
        let mut there = endpoint(&pair.server.pod);
        there.addr = SocketAddr::new(impostor.addr.ip(), PORT);
        pair.control_plane.destination(WEB).set(message::add([there]));
        no_proof(&pair).await;
        for bytes in impostor.received() {
            assert!(!bytes.windows(6).any(|window| window == b"secret"), "plaintext reached the impostor");
            assert!(
                bytes.is_empty() || bytes[0] == 0x16,
                "not a TLS handshake: {:?}",
                &bytes[..bytes.len().min(20)]
            );
        }
    });
}

#[test]
fn an_endpoint_without_identity_is_reached_in_plaintext_over_http1() {
    run(async || {
        let pair = Pair::start().await;
        let plain = mesh_tests::origin::Origin::start("plain", "127.0.3.4:8080".parse().unwrap()).await;
        pair.control_plane.destination(WEB).set(message::add([message::Endpoint::plain(plain.addr)]));
        assert_eq!(pair.get("/").await.is(200).text(), "plain");
        let seen = plain.last();
        assert_eq!((seen.version, seen.header("l5d-orig-proto")), (http::Version::HTTP_11, String::new()));
    });
}

/// A server that refuses our certificate says so only after the handshake: with an alert instead of an answer.
pub(super) async fn refuses(addr: SocketAddr, config: Arc<ClientConfig>) -> Result<(), String> {
    let header = TransportHeader::to_port(PORT, None);
    let Ok(mut stream) = peer::through_header(addr, &server_pod().identity(), config, header).await else {
        return Ok(());
    };
    let request = format!("GET / HTTP/1.1\r\nhost: web.demo:{PORT}\r\nconnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return Ok(());
    }
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    match read {
        Err(_) => Err("neither answered nor closed".into()),
        Ok(_) if answer.is_empty() => Ok(()),
        Ok(_) => Err(format!("answered {:?}", String::from_utf8_lossy(&answer))),
    }
}

#[test]
fn certificates_that_are_wrong_in_any_one_way_are_refused() {
    run(async || {
        let pair = Pair::start().await;
        let ca = &pair.control_plane.ca;
        let (inbound, name) = (pair.server.pod.inbound(), client_pod().identity());
        let stranger = Ca::new("another mesh");
        let shows = |leaf: Leaf| pki_client(ca, leaf);
        let other_domain = "client.demo.serviceaccount.identity.mesh.other.local";
        for (what, leaf, counted) in [
            ("an expired certificate", ca.leaf(&name, Validity::EXPIRED), "tls_validity"),
            (
                "a certificate of another trust domain's authority",
                stranger.leaf(other_domain, Validity::DAY),
                "tls_issuer",
            ),
            ("the right name by another authority", stranger.leaf(&name, Validity::DAY), "tls_issuer"),
            ("the right name by nobody", Leaf::self_signed(&name), "tls_issuer"),
            ("a certificate that is not valid yet", ca.leaf(&name, Validity::NOT_YET), "tls_validity"),
            ("a name that is none", ca.leaf("*.demo", Validity::DAY), "tls_identity"),
        ] {
            let label = format!("error=\"{counted}\"");
            let errors = async || pair.server.metric("inbound_tcp_errors_total", &[&label]).await;
            let before = errors().await;
            if let Err(why) = refuses(inbound, shows(leaf)).await {
                panic!("{what}: {why}");
            }
            // The proxy counts once it has told the client.
            wait::until(&format!("{what} to be counted as {counted}"), SOON, async || {
                let after = errors().await;
                if after == before + 1.0 { Ok(()) } else { Err(after) }
            })
            .await;
        }
        assert_eq!(pair.origin.count(), 0);
        // The same by the same hand with a right certificate works, so the refusals were about the certificates.
        assert!(refuses(inbound, shows(ca.leaf(&name, Validity::DAY))).await.is_err());
        assert_eq!(pair.origin.last().header("l5d-client-id"), name);
    });
}

/// Whom the trust anchors vouch for has an identity, of whatever trust domain; what it may do is for policy to say.
#[test]
fn an_identity_of_another_trust_domain_is_nobody_of_ours() {
    run(async || {
        let pair = Pair::start().await;
        let (ours, theirs) =
            (client_pod().identity(), "client.demo.serviceaccount.identity.mesh.other.local".to_owned());
        let config =
            pair.control_plane.ca.client(Some(pair.control_plane.ca.leaf(&theirs, Validity::DAY)), ALPN);
        let suffix = |parts: &[&str]| {
            use inbound::authn::{Permit, PermitMeshTls, permit_mesh_tls};
            let suffix = inbound::IdentitySuffix { parts: parts.iter().map(|&part| part.into()).collect() };
            let clients =
                permit_mesh_tls::PermitClientIdentities { identities: vec![], suffixes: vec![suffix] };
            let clients = Some(permit_mesh_tls::Clients::Identities(clients));
            let mut authorization = authorization("suffix", Client::Meshed);
            authorization.authentication =
                Some(inbound::Authn { permit: Some(Permit::MeshTls(PermitMeshTls { clients })) });
            authorization
        };
        for (what, authorized, status) in [
            ("our client by name", authorization("ours", Client::Identity(&ours)), 403),
            ("any identity", authorization("any", Client::Meshed), 200),
            ("our trust domain", suffix(&["mesh", "cluster", "local"]), 403),
            ("their trust domain", suffix(&["mesh", "other", "local"]), 200),
        ] {
            pair.control_plane.inbound(&server_pod().workload(), PORT).set(message::server(vec![authorized]));
            wait::until(what, SOON, async || {
                let header = TransportHeader::to_port(PORT, None);
                let (addr, name) = (pair.server.pod.inbound(), server_pod().identity());
                let stream = peer::through_header(addr, &name, config.clone(), header).await.unwrap();
                let mut conn = Conn::http1_over(stream).await.unwrap();
                match conn.send(client::to("http://web.demo:8080/")).await.unwrap().status.as_u16() {
                    got if got == status => Ok(()),
                    got => Err(got),
                }
            })
            .await;
        }
    });
}

#[test]
fn the_mesh_port_answers_nothing_but_mutual_tls() {
    run(async || {
        let pair = Pair::start().await;
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: web.demo:8080\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\0\0\0\0",
        ] {
            // A reset is as good as an end.
            let answer = raw::exchange(pair.server.pod.inbound(), bytes).await.unwrap_or_default();
            assert_eq!(answer, b"", "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(pair.origin.count(), 0);
    });
}

/// Catalogue S-04: whoever says hello and then nothing, or forgets the transport header, holds a connection for ten seconds.
#[test]
fn a_handshake_that_stalls_is_cut_off() {
    run(async || {
        let pair = Pair::start().await;
        let (addr, name) = (pair.server.pod.inbound(), server_pod().identity());
        let config = pki_client(
            &pair.control_plane.ca,
            pair.control_plane.ca.leaf(&client_pod().identity(), Validity::DAY),
        );
        let mut hello = vec![];
        let server = name.clone().try_into().unwrap();
        rustls::ClientConnection::new(config.clone(), server).unwrap().write_tls(&mut hello).unwrap();
        let start = Instant::now();
        let after_hello = async {
            let mut raw = raw::Raw::connect(addr).await.unwrap();
            raw.write(&hello).await.unwrap();
            raw.to_end().await.unwrap();
        };
        let before_header = async {
            let mut stream = peer::tls(addr, &name, config).await.unwrap();
            let _ = stream.read_to_end(&mut vec![]).await;
        };
        wait::within(Duration::from_secs(12), "both to be cut off", async {
            tokio::join!(after_hello, before_header)
        })
        .await;
        assert!(start.elapsed() >= Duration::from_secs(9), "{:?}", start.elapsed());
        pair.get("/").await.is(200);
    });
}

/// Half a ClientHello may be the beginning of one for us: it must not become the application's bytes by being slow.
#[test]
fn a_client_hello_that_stops_half_way_reaches_nobody() {
    run(async || {
        let pair = Pair::start().await;
        drop(pair.origin);
        let application = tcp::echo(server_pod().app(PORT)).await;
        let config = pair.control_plane.ca.client(None, &[]);
        for name in [server_pod().identity(), "shop.example".to_owned()] {
            let mut hello = vec![];
            let server = name.try_into().unwrap();
            rustls::ClientConnection::new(config.clone(), server).unwrap().write_tls(&mut hello).unwrap();
            let mut raw = raw::Raw::connect(pair.server.pod.port(PORT)).await.unwrap();
            raw.write(&hello[..hello.len() / 2]).await.unwrap();
            let start = Instant::now();
            assert_eq!(raw.to_end().await.unwrap(), b"");
            let took = start.elapsed();
            assert!((9..=12).contains(&took.as_secs()), "cut off after {took:?}");
        }
        assert_eq!(application.received().len(), 0);
        let stalled = pair.server.metric("inbound_tcp_errors_total", &["error=\"tls_timeout\""]).await;
        assert_eq!(stalled, 2.0);
    });
}

/// Whose policy says HTTP means it: bytes in TLS that is not ours are none.
#[test]
fn foreign_tls_is_no_way_around_the_rules_of_an_http_port() {
    run(async || {
        let pair = Pair::start().await;
        drop(pair.origin);
        let application = tcp::echo(server_pod().app(PORT)).await;
        let routes = vec![message::inbound_route("default", message::path_prefix("/"), vec![])];
        let http = inbound::proxy_protocol::Http1 { routes, local_rate_limit: None };
        let kind = inbound::proxy_protocol::Kind::Http1(http);
        let policy = message::server_of(kind, vec![authorization("anyone", Client::Anyone)]);
        pair.control_plane.inbound(&server_pod().workload(), PORT).set(policy);
        let mut hello = vec![];
        let config = pair.control_plane.ca.client(None, &[]);
        rustls::ClientConnection::new(config, "shop.example".try_into().unwrap())
            .unwrap()
            .write_tls(&mut hello)
            .unwrap();
        wait::until("the policy", SOON, async || {
            let mut raw = raw::Raw::connect(pair.server.pod.port(PORT)).await.unwrap();
            raw.write(&hello).await.unwrap();
            match raw.exact(1).await {
                Err(error) if error.to_string().starts_with("closed") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let reached = application.received().len();
        let mut raw = raw::Raw::connect(pair.server.pod.port(PORT)).await.unwrap();
        raw.write(&hello).await.unwrap();
        assert_eq!(raw.to_end().await.unwrap(), b"");
        assert_eq!(application.received().len(), reached);
    });
}

/// Catalogue S-05, at the rate that a machine of tests can make: whoever only shakes hands does not get in the way of those who work.
#[test]
fn a_flood_of_handshakes_leaves_open_connections_alone() {
    run_alone(async || {
        const PER_S: u32 = 200;
        let pair = Pair::start().await;
        let pid = pair.server.process.pid();
        let descriptors = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let to_web = || client::to(&format!("http://web.demo:{PORT}/"));
        let slowest = async |during: Duration| {
            let load = Load::start(pair.client.pod.outbound(), 200, 4, to_web);
            let outcomes = load.run_for(during).await;
            assert_eq!(failures(&outcomes), []);
            let mut took: Vec<_> = outcomes.iter().map(|outcome| outcome.took).collect();
            took.sort();
            took[took.len() * 99 / 100]
        };
        let calm = slowest(Duration::from_secs(2)).await;
        let open = descriptors();
        let (addr, name) = (pair.server.pod.inbound(), server_pod().identity());
        let config = pki_client(
            &pair.control_plane.ca,
            pair.control_plane.ca.leaf(&client_pod().identity(), Validity::DAY),
        );
        let flood = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1) / PER_S);
            let mut made = 0_u32;
            loop {
                tick.tick().await;
                if peer::tls(addr, &name, config.clone()).await.is_ok() {
                    made += 1;
                }
                if made == 5 * PER_S {
                    return;
                }
            }
        });
        let busy = slowest(Duration::from_secs(4)).await;
        wait::within(SOON, "the flood to be over", flood).await.unwrap();
        let bound = calm.max(Duration::from_millis(5)) * 5;
        assert!(busy <= bound, "p99 was {calm:?} and became {busy:?}");
        wait::until("the descriptors to be given back", SOON, async || match descriptors() {
            now if now <= open + 2 => Ok(()),
            now => Err(format!("{open} became {now}")),
        })
        .await;
    });
}

fn pki_client(ca: &Ca, leaf: Leaf) -> Arc<ClientConfig> {
    ca.client(Some(leaf), ALPN)
}

#[test]
fn a_port_for_the_mesh_only_refuses_plaintext_and_tls_without_a_certificate() {
    run(async || {
        let pair = Pair::start().await;
        let meshed = message::server(vec![authorization("meshed", Client::Meshed)]);
        pair.control_plane.inbound(&server_pod().workload(), PORT).set(meshed);
        let direct = pair.server.pod.port(PORT);
        wait::until("plaintext to be refused", SOON, async || match client::get(direct, "/").await {
            Ok(response) if response.status() == 403 => Ok(()),
            Ok(response) => Err(response.status().to_string()),
            Err(error) => Err(format!("{error:#}")),
        })
        .await;
        pair.origin.reset();
        let anonymous = pair.control_plane.ca.client(None, ALPN);
        let header = TransportHeader::to_port(PORT, None);
        let stream =
            peer::through_header(pair.server.pod.inbound(), &server_pod().identity(), anonymous, header)
                .await;
        let refused = match stream {
            Err(_) => true,
            Ok(stream) => {
                let mut conn = Conn::http1_over(stream).await.unwrap();
                conn.send(client::to("http://web.demo:8080/")).await.map_or(true, |reply| reply.status == 403)
            }
        };
        assert!(refused && pair.origin.count() == 0);
        pair.get("/").await.is(200);
    });
}

#[test]
fn a_peer_without_transport_header_is_served_by_original_destination() {
    run(async || {
        let pair = Pair::start().await;
        let mut without = endpoint(&pair.server.pod);
        without.transport_port = None;
        pair.control_plane.destination(WEB).set(message::add([without]));
        pair.get("/plain-mtls").await.is(200);
        let seen = pair.origin.last();
        assert_eq!((seen.uri.path(), seen.header("l5d-client-id")), ("/plain-mtls", client_pod().identity()));
    });
}

#[test]
fn what_an_application_sends_arrives_with_the_version_it_was_sent_in() {
    run(async || {
        let pair = Pair::start().await;
        pair.get("/one").await.is(200);
        let mut conn = Conn::http2(pair.client.pod.outbound()).await.unwrap();
        let reply = conn.send(client::to(&format!("http://web.demo:{PORT}/two"))).await.unwrap().is(200);
        assert_eq!(reply.version, http::Version::HTTP_2);
        let seen: Vec<_> = pair.origin.seen().iter().map(|s| (s.uri.path().to_owned(), s.version)).collect();
        assert_eq!(seen, [("/one".into(), http::Version::HTTP_11), ("/two".into(), http::Version::HTTP_2)]);
        assert!(pair.origin.seen().iter().all(|seen| seen.header("l5d-orig-proto").is_empty()));
    });
}

/// Two proxies share one connection, and its window, for all that their applications tell each other.
#[test]
fn uploads_that_nobody_reads_hold_up_no_other() {
    run(async || {
        let pair = Pair::start().await;
        pair.origin.answers(|request| async move {
            if request.uri().path() == "/unread" {
                let () = std::future::pending().await;
            }
            let read = request.into_body().collect().await.expect("a whole body").to_bytes();
            origin::text(200, &read.len().to_string())
        });
        let upload = |path: &str| {
            let mut request = client::to(&format!("http://web.demo:{PORT}{path}"));
            *request.method_mut() = http::Method::POST;
            *request.body_mut() = client::body(vec![0; 1 << 20]);
            request
        };
        let mut unread = JoinSet::new();
        for _ in 0..8 {
            let (proxy, request) = (pair.client.pod.outbound(), upload("/unread"));
            unread.spawn(async move { client::send(proxy, request).await });
        }
        wait::until("eight uploads", SOON, async || match pair.origin.count() {
            8 => Ok(()),
            some => Err(some),
        })
        .await;
        for _ in 0..3 {
            let reply = wait::within(SOON, "an upload that is read", pair.send(upload("/read"))).await;
            assert_eq!(reply.is(200).text(), "1048576");
        }
    });
}

/// TLS that is not ours: for a name that is not the proxy's, the application's own TLS.
#[test]
fn foreign_tls_passes_untouched_to_the_application() {
    run(async || {
        let pair = Pair::start().await;
        drop(pair.origin);
        let theirs = Ca::new("the application's own authority");
        let acceptor =
            tokio_rustls::TlsAcceptor::from(theirs.server(theirs.leaf("shop.example", Validity::DAY), &[]));
        let _application = tcp::serve(server_pod().app(PORT), move |stream, keep| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut byte = [0; 4];
                if stream.read_exact(&mut byte).await.is_ok() {
                    keep.push(&byte);
                    let _ = stream.write_all(&byte).await;
                }
                let _ = stream.shutdown().await;
            }
        })
        .await;
        let mut stream = peer::tls(pair.server.pod.port(PORT), "shop.example", theirs.client(None, &[]))
            .await
            .expect("end-to-end TLS");
        stream.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        wait::within(SOON, "the echo", stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"ping");
    });
}

#[test]
fn a_client_proxy_refuses_a_server_with_an_expired_certificate() {
    run(async || {
        let pair = Pair::start().await;
        let ca = &pair.control_plane.ca;
        let name = server_pod().identity();
        for (at, leaf, expected) in [
            ("127.0.3.5:4143", ca.leaf(&name, Validity::EXPIRED), false),
            ("127.0.3.6:4143", ca.leaf(&name, Validity::DAY), true),
        ] {
            let acceptor = tokio_rustls::TlsAcceptor::from(ca.server(leaf, ALPN));
            let server = tcp::serve(at.parse().unwrap(), move |stream, keep| {
                let acceptor = acceptor.clone();
                async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut chunk = vec![0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                        keep.push(&chunk[..read]);
                    }
                }
            })
            .await;
            let mut there = endpoint(&pair.server.pod);
            there.addr = SocketAddr::new(server.addr.ip(), PORT);
            pair.control_plane.destination(WEB).set(message::add([there]));
            let reached = || server.received().iter().any(|bytes| !bytes.is_empty());
            let send = || client::send(client_pod().outbound(), client::to("http://web.demo:8080/"));
            if expected {
                wait::until("a request to reach a valid server", SOON, async || {
                    let _ = tokio::time::timeout(Duration::from_millis(500), send()).await;
                    reached().then_some(()).ok_or("not yet")
                })
                .await;
            } else {
                no_proof(&pair).await;
                assert!(!reached(), "a request reached a server whose certificate has ended");
            }
        }
    });
}
