//! The hop between two proxies: mutual TLS or nothing, and nothing readable.

use mesh_tests::{
    client::{self, Conn},
    control_plane::message::{self, Client, authorization},
    origin::tcp,
    pair::{PORT, Pair, WEB, client_pod, endpoint, server_pod},
    peer::{self, TransportHeader},
    pki::{Ca, Leaf, Validity},
    relay::Relay,
    story::run,
    wait::{self, SOON},
};
use rustls::ClientConfig;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ALPN: &[&[u8]] = &[mesh_api::names::TRANSPORT_ALPN];

/// The client's pair with a relay between its proxies.
async fn over_relay() -> (Pair, Relay) {
    let pair = Pair::start().await;
    let relay = Relay::start("127.0.3.2:4143".parse().unwrap(), pair.server.pod.inbound()).await;
    let mut relayed = endpoint(&pair.server.pod);
    relayed.addr = SocketAddr::new(relay.addr.ip(), PORT);
    pair.control_plane.destination(WEB).set(message::add([relayed]));
    (pair, relay)
}

#[test]
fn nothing_of_a_request_or_response_is_readable_between_two_proxies() {
    run(async || {
        let (pair, relay) = over_relay().await;
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
async fn no_proof(pair: &Pair) {
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
async fn refuses(addr: SocketAddr, config: Arc<ClientConfig>) -> Result<(), String> {
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
        for (what, leaf) in [
            ("an expired certificate", ca.leaf(&name, Validity::EXPIRED)),
            ("a certificate of another trust domain's authority", stranger.leaf(other_domain, Validity::DAY)),
            ("the right name by another authority", stranger.leaf(&name, Validity::DAY)),
            ("a certificate that is not valid yet", ca.leaf(&name, Validity::NOT_YET)),
        ] {
            if let Err(why) = refuses(inbound, shows(leaf)).await {
                panic!("{what}: {why}");
            }
        }
        assert_eq!(pair.origin.count(), 0);
        // The same by the same hand with a right certificate works, so the refusals were about the certificates.
        assert!(refuses(inbound, shows(ca.leaf(&name, Validity::DAY))).await.is_err());
        assert_eq!(pair.origin.last().header("l5d-client-id"), name);
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
