//! `Identity.Certify`.

use super::mtls::{no_proof, refuses};
use mesh_tests::{
    client::{self, Conn},
    control_plane::{Certify, ControlPlane, certificate, message},
    grpc::Code,
    origin::tcp,
    pair::{Files, PORT, Pair, WEB, client_pod, describe, endpoint, proxy, server_pod},
    peer::{self, ALPN, TransportHeader},
    pki::{self, Ca, Validity, requested_names},
    pod::{Proxy, ProxyStart},
    story::run,
    wait::{self, SOON},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

#[test]
fn a_proxy_asks_for_its_own_name_with_its_token_and_a_der_request() {
    run(async || {
        let control_plane = ControlPlane::start().await;
        let files = Files::new(&control_plane.ca.pem());
        let _proxy = proxy(&client_pod(), &files).ready().await;
        let asked = control_plane.certified().remove(0);
        assert_eq!(asked.identity, client_pod().identity());
        assert_eq!(asked.token, b"token of client");
        assert_eq!(requested_names(&asked.certificate_signing_request), [client_pod().identity()]);
    });
}

#[test]
fn a_proxy_is_alive_but_not_ready_until_it_has_a_certificate() {
    run(async || {
        let control_plane = ControlPlane::stopped();
        let files = Files::new(&control_plane.ca.pem());
        let proxy = proxy(&client_pod(), &files).spawn();
        wait::until("/live", SOON, async || proxy.admin("/live").await.map_err(|e| format!("{e:#}"))).await;
        let (status, body) = proxy.admin("/ready").await.unwrap();
        assert_eq!((status, body.contains("identity")), (503, true), "{body}");
        control_plane.restart().await;
        proxy.ready(SOON).await;
    });
}

/// Every one of these is a failure to be retried; none may make the proxy ready, and none may end it.
#[test]
fn no_bad_answer_to_certify_makes_a_proxy_ready_and_a_good_one_does() {
    run(async || {
        let control_plane = ControlPlane::start().await;
        let files = Files::new(&control_plane.ca.pem());
        let own = control_plane.ca.clone();
        let stranger = Arc::new(Ca::new("another mesh"));
        let mut bad = vec![
            ("garbage", Certify::Garbage(b"\xff\xff\xff")),
            ("an empty response", Certify::Response(Default::default())),
            (
                "another name",
                Certify::SignAs {
                    ca: own.clone(),
                    name: "web.demo.serviceaccount.identity.mesh.evil.local".into(),
                },
            ),
            ("another authority", Certify::Sign { ca: stranger, validity: Validity::DAY }),
            ("an expired leaf", Certify::Sign { ca: own.clone(), validity: Validity::EXPIRED }),
        ];
        for code in [
            Code::Unavailable,
            Code::InvalidArgument,
            Code::FailedPrecondition,
            Code::Internal,
            Code::Unimplemented,
        ] {
            bad.push(("a refusal", Certify::Refuse(code)));
        }
        // A certificate for somebody else's key.
        let (_, request) = mesh_tests::pki::request(&[&client_pod().identity()]);
        let foreign_key = certificate(&own, &request, &client_pod().identity(), Validity::DAY);
        bad.push(("another key", Certify::Response(foreign_key)));

        for (what, how) in bad {
            control_plane.certify(how.clone());
            let before = control_plane.certified().len();
            let mut proxy = proxy(&client_pod(), &files).spawn();
            wait::until(&format!("a second attempt after {what} ({how:?})"), SOON, async || {
                match control_plane.certified().len() - before {
                    0 | 1 => Err("asked once or less"),
                    _ => Ok(()),
                }
            })
            .await;
            assert_eq!(proxy.admin("/ready").await.unwrap().0, 503, "{what} ({how:?})");
            control_plane.certify(Certify::Sign { ca: own.clone(), validity: Validity::DAY });
            proxy.ready(SOON).await;
            proxy.process.kill().await;
        }
    });
}

#[test]
fn a_certificate_is_renewed_before_it_ends_with_the_token_of_that_moment() {
    run(async || {
        let control_plane = ControlPlane::start().await;
        describe(&control_plane);
        control_plane.certify(Certify::Sign { ca: control_plane.ca.clone(), validity: Validity::seconds(8) });
        let files = Files::new(&control_plane.ca.pem());
        let _proxy = proxy(&client_pod(), &files).knob("IDENTITY_MIN_REFRESH", "1s").ready().await;
        files.write("client.token", "a newer token");
        let renewal = wait::until("a renewal", SOON, async || {
            control_plane.certified().into_iter().nth(1).ok_or("no second request")
        })
        .await;
        assert_eq!(renewal.token, b"a newer token");
    });
}

/// Certificates live for six seconds and are renewed from the first on.
async fn pair_of_short_lives() -> Pair {
    let refresh = |proxy: ProxyStart| proxy.knob("IDENTITY_MIN_REFRESH", "1s");
    let short = |control_plane: &ControlPlane| {
        let ca = control_plane.ca.clone();
        control_plane.certify(Certify::Sign { ca, validity: Validity::seconds(6) });
    };
    Pair::start_under(short, refresh, refresh).await
}

#[test]
fn requests_flow_across_renewals_and_beyond_the_first_certificates_end() {
    run(async || {
        let pair = pair_of_short_lives().await;
        pair.goes_on("every request", Duration::from_secs(9)).await;
        assert!(pair.control_plane.certified().len() >= 4, "{}", pair.control_plane.certified().len());
    });
}

/// The end of a certificate is the end of new connections, never of their protection.
#[test]
fn when_certificates_end_requests_fail_and_none_goes_out_in_plaintext() {
    run(async || {
        let pair = pair_of_short_lives().await;
        let relay = pair.over_relay().await;
        pair.get("/secret").await.is(200);
        pair.control_plane.stop().await;
        // A connection that stands was made in time; what is asked here is whether another can be made. A request that is on the old one
        // when it is cut says nothing about that, those after it do.
        let status = async || {
            relay.cut();
            let mut statuses = vec![];
            for _ in 0..3 {
                statuses.push(pair.status("/secret").await);
            }
            statuses.iter().copied().find(|status| *status == 200).unwrap_or(statuses[2])
        };
        wait::until("the certificates to end", SOON, async || match status().await {
            500..=504 => Ok(()),
            status => Err(status),
        })
        .await;
        pair.origin.reset();
        for _ in 0..3 {
            let status = status().await;
            assert!((500..=504).contains(&status), "{status}");
        }
        assert_eq!(pair.origin.count(), 0);
        assert!(!relay.has_passed("secret"), "a request went out in plaintext");
        pair.control_plane.restart().await;
        wait::until("new certificates", SOON, async || match status().await {
            200 => Ok(()),
            status => Err(status),
        })
        .await;
        assert!(!relay.has_passed("secret"));
    });
}

#[test]
fn trust_anchors_are_read_again_when_their_file_changes() {
    run(async || {
        let pair = Pair::start().await;
        pair.get("/").await.is(200);
        // The server's next certificate comes from a new authority; a client that does not know it refuses.
        let next = Arc::new(Ca::new("the next authority"));
        let both = format!("{}{}", pair.control_plane.ca.pem(), next.pem());
        pair.files.write("trust-anchors.pem", &both);
        pair.control_plane.certify(Certify::Sign { ca: next, validity: Validity::DAY });
        let Pair { client, server, origin, control_plane, files } = pair;
        let pod = server.pod.clone();
        drop(server);
        let server: Proxy = proxy(&pod, &files).ready().await;
        let pair = Pair { client, server, origin, control_plane, files };
        pair.becomes("the client to trust the new authority", "/", 200).await;
    });
}

/// Catalogue S-03: an authority that is taken out of the file vouches for nobody from then on; who is connected already has proved it.
#[test]
fn an_authority_that_is_removed_is_not_believed_any_more() {
    run(async || {
        let pair = Pair::start().await;
        let (old, next) = (pair.control_plane.ca.clone(), Arc::new(Ca::new("the next authority")));
        pair.files.write("trust-anchors.pem", &format!("{}{}", old.pem(), next.pem()));
        // Of both proxies and of peers by hand.
        pair.control_plane.certify(Certify::Sign { ca: next.clone(), validity: Validity::DAY });
        let (server, me) = (server_pod().identity(), client_pod().identity());
        let roots = || {
            let mut roots = (*old.roots()).clone();
            roots.extend(next.roots().roots.iter().cloned());
            Arc::new(roots)
        };
        let by = |ca: &Ca| pki::client(roots(), Some(ca.leaf(&me, Validity::DAY)), ALPN);
        let connect = async |config| {
            let header = TransportHeader::to_port(PORT, None);
            let stream = peer::through_header(pair.server.pod.inbound(), &server, config, header).await?;
            Conn::http1_over(stream).await
        };
        let request = || client::to(&format!("http://web.demo:{PORT}/"));
        let mut before = connect(by(&old)).await.unwrap();
        before.send(request()).await.unwrap().is(200);
        wait::until("the next authority to be believed", SOON, async || {
            connect(by(&next)).await?.send(request()).await.map(drop)
        })
        .await;

        pair.files.write("trust-anchors.pem", &next.pem());
        wait::until("the old authority to be forgotten", SOON, async || {
            match connect(by(&old)).await?.send(request()).await {
                Err(_) => Ok(()),
                Ok(reply) => Err(anyhow::anyhow!("answered {}", reply.status)),
            }
        })
        .await;
        refuses(pair.server.pod.inbound(), by(&old)).await.unwrap();
        before.send(request()).await.unwrap().is(200);
        connect(by(&next)).await.unwrap().send(request()).await.unwrap().is(200);

        // The proxies have new certificates by themselves, so that they still believe each other; and nobody else.
        pair.becomes("the proxies to go on", "/", 200).await;
        let acceptor = tokio_rustls::TlsAcceptor::from(old.server(old.leaf(&server, Validity::DAY), ALPN));
        let impostor = tcp::serve("127.0.3.5:4143".parse().unwrap(), move |stream, _| {
            let acceptor = acceptor.clone();
            async move {
                let _ = acceptor.accept(stream).await;
            }
        })
        .await;
        let mut there = endpoint(&pair.server.pod);
        there.addr = SocketAddr::new(impostor.addr.ip(), PORT);
        let topic = pair.control_plane.destination(WEB);
        topic.set(message::add([there]));
        topic.push(&message::remove([endpoint(&pair.server.pod).addr]));
        pair.becomes("the endpoint by the old authority to be refused", "/", 502).await;
        no_proof(&pair).await;
    });
}

#[test]
fn a_proxy_keeps_its_certificate_while_the_control_plane_is_away() {
    run(async || {
        let pair = Pair::start().await;
        pair.get("/").await.is(200);
        pair.control_plane.stop().await;
        pair.goes_on("mutual TLS", Duration::from_secs(2)).await;
        assert_eq!(pair.client.admin("/ready").await.unwrap().0, 200);
        assert_eq!(pair.origin.last().header("l5d-client-id"), client_pod().identity());
    });
}
