//! What an EgressNetwork becomes on the wire: traffic that leaves the mesh, allowed or denied, with routes of its own before that.
//! No field of the contract says "deny"; a failure injected into HTTP and `Forbidden` for bytes do.

use super::rules::fails;
use linkerd2_proxy_api::{
    opaque_route::Forbidden,
    outbound::{
        self, HttpRoute, OpaqueRoute, OutboundPolicy, TlsRoute, http_route,
        opaque_route::{self, Filter},
        proxy_protocol::{Detect, Http1, Http2, Kind, Opaque, Tls},
        tls_route,
    },
};
use mesh_tests::{
    client::{self, Conn, raw::Raw},
    control_plane::message::{Endpoint, by_default, duration, forward, path_prefix, resource, rule},
    grpc::framed,
    origin::Origin,
    pair::Pair,
    story::run,
    wait::{self, SOON},
};
use std::{net::SocketAddr, time::Duration};

/// Outside of the mesh.
const OUTSIDE: &str = "127.0.3.1:8080";
const REASON: &str = "traffic not allowed";

#[derive(Clone, Copy)]
enum Traffic {
    Allow,
    Deny,
}

fn of_network(kind: Kind) -> OutboundPolicy {
    OutboundPolicy {
        metadata: resource("policy.linkerd.io", "EgressNetwork", "demo", "internet", 8080),
        protocol: Some(outbound::ProxyProtocol { kind: Some(kind) }),
    }
}

fn outside() -> outbound::Backend {
    let addr: SocketAddr = OUTSIDE.parse().unwrap();
    forward(Endpoint::plain(addr), by_default("egress-fallback"))
}

/// As an operator says it: the routes that users attached to the network, then its default. Even what is denied has a backend.
fn egress(traffic: Traffic, users: Vec<HttpRoute>) -> OutboundPolicy {
    let mut default = rule(outside());
    let mut bytes = opaque_route::Rule {
        filters: vec![],
        backends: Some(opaque_route::Distribution {
            kind: Some(opaque_route::distribution::Kind::FirstAvailable(
                opaque_route::distribution::FirstAvailable {
                    backends: vec![opaque_route::RouteBackend { backend: Some(outside()), filters: vec![] }],
                },
            )),
        }),
    };
    let name = match traffic {
        Traffic::Allow => "egress-allow",
        Traffic::Deny => {
            default.filters = vec![fails(403, REASON)];
            bytes.filters = vec![Filter { kind: Some(opaque_route::filter::Kind::Forbidden(Forbidden {})) }];
            "egress-deny"
        }
    };
    let default =
        HttpRoute { metadata: by_default(&format!("http-{name}")), hosts: vec![], rules: vec![default] };
    let routes: Vec<_> = users.into_iter().chain([default]).collect();
    let opaque = OpaqueRoute { metadata: by_default(&format!("tcp-{name}")), rules: vec![bytes] };
    of_network(Kind::Detect(Detect {
        timeout: duration(Duration::from_secs(10)),
        http1: Some(Http1 { routes: routes.clone(), failure_accrual: None }),
        http2: Some(Http2 { routes, failure_accrual: None }),
        opaque: Some(Opaque { routes: vec![opaque] }),
    }))
}

async fn get(pair: &Pair, path: &str) -> client::Reply {
    pair.send(client::to(&format!("http://{OUTSIDE}{path}"))).await
}

#[test]
fn a_network_that_denies_is_told_in_every_protocol_and_reached_in_none() {
    run(async || {
        let pair = Pair::start().await;
        let origin = Origin::start("outside", OUTSIDE.parse().unwrap()).await;
        let topic = pair.control_plane.outbound(OUTSIDE);
        topic.set(egress(Traffic::Deny, vec![]));

        let reply = get(&pair, "/").await.is(403);
        assert_eq!(reply.header("l5d-proxy-error"), REASON);
        let mut conn = Conn::http2(pair.client.pod.outbound()).await.unwrap();
        let request = client::to(&format!("http://{OUTSIDE}/"));
        assert_eq!(conn.send(request).await.unwrap().is(403).header("l5d-proxy-error"), REASON);
        let mut call = client::to(&format!("http://{OUTSIDE}/demo.Echo/Get"));
        call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        *call.body_mut() = client::body(framed(b"hello"));
        let reply = conn.send(call).await.unwrap().is(200);
        assert_eq!((reply.header("grpc-status"), reply.header("grpc-message")), ("7".into(), REASON.into()));

        // A tunnel may yet turn out to carry HTTP, which has its own answer; anything else ends without a word.
        for bytes in [&b"\x16\x03\x01\x00\x05hello"[..], b"SSH-2.0-OpenSSH\r\n"] {
            let tunnel = client::tunnel(pair.client.pod.outbound(), OUTSIDE).await.unwrap();
            let mut raw = Raw::over(tunnel);
            raw.write(bytes).await.unwrap();
            assert_eq!(raw.to_end().await.unwrap(), b"", "{}", String::from_utf8_lossy(bytes));
        }
        let tunnel = client::tunnel(pair.client.pod.outbound(), OUTSIDE).await.unwrap();
        let mut within = Conn::http1_over(tunnel).await.unwrap();
        within.send(client::to(&format!("http://{OUTSIDE}/"))).await.unwrap().is(403);

        let errors = async |of: &str, error: &str| {
            let name = format!("outbound_{of}_errors_total");
            pair.client.metric(&name, &[&format!("error=\"{error}\"")]).await
        };
        assert_eq!((errors("http", "injected").await, errors("tcp", "forbidden").await), (4.0, 2.0));
        assert_eq!(origin.count(), 0);

        topic.set(egress(Traffic::Allow, vec![]));
        wait::until("traffic to be allowed", SOON, async || match get(&pair, "/").await.status.as_u16() {
            200 => Ok(()),
            status => Err(status),
        })
        .await;
    });
}

#[test]
fn what_a_route_of_the_network_takes_is_let_out_of_one_that_denies() {
    run(async || {
        let pair = Pair::start().await;
        let origin = Origin::start("outside", OUTSIDE.parse().unwrap()).await;
        let mut open = rule(outside());
        open.matches = vec![path_prefix("/open")];
        let route = HttpRoute {
            metadata: resource("gateway.networking.k8s.io", "HTTPRoute", "demo", "open", 0),
            hosts: vec![],
            rules: vec![open],
        };
        pair.control_plane.outbound(OUTSIDE).set(egress(Traffic::Deny, vec![route]));
        for (path, status) in [("/open", 200), ("/open/x", 200), ("/openly", 403), ("/", 403)] {
            get(&pair, path).await.is(status);
        }
        let seen: Vec<_> = origin.seen().iter().map(|seen| seen.uri.path().to_owned()).collect();
        assert_eq!(seen, ["/open", "/open/x"]);
    });
}

/// Where nothing may pass whatever it is, the tunnel itself is refused: with a status that says why.
#[test]
fn a_network_of_which_nothing_is_allowed_refuses_the_connection() {
    run(async || {
        let pair = Pair::start().await;
        let origin = Origin::start("outside", OUTSIDE.parse().unwrap()).await;
        let rules = vec![tls_route::Rule {
            filters: vec![tls_route::Filter { kind: Some(tls_route::filter::Kind::Forbidden(Forbidden {})) }],
            backends: Some(tls_route::Distribution {
                kind: Some(tls_route::distribution::Kind::Empty(tls_route::distribution::Empty {})),
            }),
        }];
        let route = TlsRoute { metadata: by_default("tls-egress-deny"), snis: vec![], rules };
        let nothing = HttpRoute {
            metadata: by_default("http-egress-deny"),
            hosts: vec![],
            rules: vec![http_route::Rule { filters: vec![fails(403, REASON)], ..rule(outside()) }],
        };
        for (number, (kind, status)) in [
            (Kind::Tls(Tls { routes: vec![route] }), 403),
            // Of HTTP each request is answered, so that its client can read why.
            (Kind::Http1(Http1 { routes: vec![nothing], failure_accrual: None }), 200),
        ]
        .into_iter()
        .enumerate()
        {
            let target = format!("127.0.3.1:{}", 8081 + number);
            pair.control_plane.outbound(&target).set(of_network(kind));
            let mut raw = Raw::connect(pair.client.pod.outbound()).await.unwrap();
            raw.write(format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n")).await.unwrap();
            let head = raw.head().await.unwrap();
            assert_eq!(head.split(' ').nth(1), Some(status.to_string().as_str()), "{target}: {head}");
        }
        assert_eq!(origin.count(), 0);
    });
}
