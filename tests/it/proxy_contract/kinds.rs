//! The contract's alternatives, each of which a control plane may choose: kinds of match, of protocol on both sides, of redirect.

use super::rules::{fails, told};
use linkerd2_proxy_api::{
    http_route::{
        HeaderMatch, HostMatch, HttpRouteMatch, PathMatch, PathModifier, QueryParamMatch, RequestRedirect,
        header_match, host_match, path_match, path_modifier, query_param_match,
    },
    http_types::{HttpMethod, Scheme, http_method, scheme},
    inbound,
    outbound::{self, http_route as http, proxy_protocol::Kind},
};
use mesh_tests::{
    client::{self, Conn, raw::Raw},
    control_plane::message::{
        self, Client, Endpoint, authorization, balanced, duration, header_exact, inbound_route, path_prefix,
        policy, rule,
    },
    grpc::framed,
    origin::tcp,
    pair::{PORT, Pair, WEB, client_pod, server_pod},
    peer::{self, ALPN, TransportHeader},
    story::run,
    wait::{self, SOON},
};
use std::time::{Duration, Instant};

#[test]
fn each_kind_of_match_matches_what_it_says_and_nothing_more() {
    run(async || {
        let pair = Pair::start().await;
        let below = |path: &str| path_prefix(path);
        let query = |value| QueryParamMatch { name: "v".into(), value: Some(value) };
        let path = |kind| HttpRouteMatch { path: Some(PathMatch { kind: Some(kind) }), ..Default::default() };
        let method = http_method::Type::Registered(http_method::Registered::Post as i32);
        let name_like = |regex: &str| HeaderMatch {
            name: "end-user".into(),
            value: Some(header_match::Value::Regex(regex.into())),
        };
        let matches = vec![
            HttpRouteMatch { method: Some(HttpMethod { r#type: Some(method) }), ..below("/method") },
            HttpRouteMatch {
                method: Some(HttpMethod { r#type: Some(http_method::Type::Unregistered("BREW".into())) }),
                ..below("/brew")
            },
            HttpRouteMatch {
                query_params: vec![query(query_param_match::Value::Exact("1".into()))],
                ..below("/query")
            },
            HttpRouteMatch {
                query_params: vec![query(query_param_match::Value::Regex("[0-9]+".into()))],
                ..below("/numbers")
            },
            HttpRouteMatch { headers: vec![name_like("j.*n")], ..below("/header") },
            HttpRouteMatch {
                headers: vec![header_exact("a", "1"), header_exact("b", "2")],
                ..below("/both")
            },
            path(path_match::Kind::Regex("/re/[a-z]+".into())),
        ];
        let answering = |matching| {
            let mut rule = rule(balanced(WEB));
            rule.matches = vec![matching];
            rule.filters = vec![fails(240, "matched")];
            rule
        };
        told(&pair, matches.into_iter().map(answering).chain([rule(balanced(WEB))]).collect()).await;
        for (method, path, headers, matched) in [
            ("POST", "/method", vec![], true),
            ("GET", "/method", vec![], false),
            ("BREW", "/brew", vec![], true),
            ("GET", "/brew", vec![], false),
            ("GET", "/query?v=1", vec![], true),
            ("GET", "/query?x=2&v=1", vec![], true),
            ("GET", "/query?v=12", vec![], false),
            ("GET", "/query?w=1", vec![], false),
            ("GET", "/query", vec![], false),
            ("GET", "/numbers?v=42", vec![], true),
            ("GET", "/numbers?v=a42", vec![], false),
            ("GET", "/header", vec![("end-user", "jason")], true),
            ("GET", "/header", vec![("end-user", "jasons")], false),
            ("GET", "/both", vec![("a", "1"), ("b", "2")], true),
            ("GET", "/both", vec![("a", "1")], false),
            ("GET", "/re/abc", vec![], true),
            ("GET", "/re/abc1", vec![], false),
            ("GET", "/no/re/abc", vec![], false),
        ] {
            let mut request = client::to(&format!("http://web.demo:{PORT}{path}"));
            *request.method_mut() = method.parse().unwrap();
            for (name, value) in &headers {
                request.headers_mut().insert(*name, value.parse().unwrap());
            }
            let status = pair.send(request).await.status.as_u16();
            assert_eq!(status, if matched { 240 } else { 200 }, "{method} {path} {headers:?}");
        }
    });
}

/// Sets the policy and waits until a request shows that it counts.
async fn counts(pair: &Pair, policy: outbound::OutboundPolicy, uri: &str, status: u16) {
    pair.control_plane.outbound(WEB).set(policy);
    wait::until("the new policy", SOON, async || match pair.send(client::to(uri)).await.status.as_u16() {
        got if got == status => Ok(()),
        got => Err(got),
    })
    .await;
}

fn answering(status: u32) -> http::Rule {
    let mut rule = rule(balanced(WEB));
    rule.filters = vec![fails(status, "")];
    rule
}

#[test]
fn a_routes_hosts_choose_it_and_an_exact_one_beats_a_wildcard() {
    run(async || {
        let pair = Pair::start().await;
        let route = |host: Option<host_match::Match>, status| outbound::HttpRoute {
            metadata: message::by_default("http"),
            hosts: host.map(|host| HostMatch { r#match: Some(host) }).into_iter().collect(),
            rules: vec![answering(status)],
        };
        let wildcard = host_match::Suffix { reverse_labels: vec!["demo".into()] };
        let routes = vec![
            route(None, 240),
            route(Some(host_match::Match::Suffix(wildcard)), 241),
            route(Some(host_match::Match::Exact("web.demo.svc".into())), 242),
        ];
        let mut policy = policy(WEB, vec![]);
        if let Some(Kind::Detect(detect)) =
            policy.protocol.as_mut().and_then(|protocol| protocol.kind.as_mut())
        {
            detect.http1.as_mut().unwrap().routes = routes;
        }
        counts(&pair, policy, &format!("http://web.demo.svc:{PORT}/"), 242).await;
        for (host, status) in
            [("web.demo", 241), ("WEB.Demo", 241), ("web", 240), ("web.demo.svc.cluster.local", 240)]
        {
            let reply = pair.send(client::to(&format!("http://{host}:{PORT}/"))).await;
            assert_eq!(reply.status.as_u16(), status, "{host}");
        }
    });
}

#[test]
fn each_kind_of_outbound_protocol_is_obeyed() {
    run(async || {
        let pair = Pair::start().await;
        let routes = |status| {
            vec![outbound::HttpRoute {
                metadata: message::by_default("http"),
                hosts: vec![],
                rules: vec![answering(status)],
            }]
        };
        let of = |kind| outbound::OutboundPolicy {
            metadata: message::service(WEB),
            protocol: Some(outbound::ProxyProtocol { kind: Some(kind) }),
        };
        let uri = format!("http://web.demo:{PORT}/");
        let http1 =
            Kind::Http1(outbound::proxy_protocol::Http1 { routes: routes(240), failure_accrual: None });
        counts(&pair, of(http1), &uri, 240).await;
        let http2 =
            Kind::Http2(outbound::proxy_protocol::Http2 { routes: routes(241), failure_accrual: None });
        pair.control_plane.outbound(WEB).set(of(http2));
        let mut conn = Conn::http2(pair.client.pod.outbound()).await.unwrap();
        wait::until("HTTP/2", SOON, async || {
            match conn.send(client::to(&uri)).await.unwrap().status.as_u16() {
                241 => Ok(()),
                status => Err(status),
            }
        })
        .await;

        // The application's own TLS, of which only the bytes are ours to carry.
        let service = "db.demo.svc.cluster.local:5432";
        let rules = vec![outbound::tls_route::Rule {
            backends: Some(outbound::tls_route::Distribution {
                kind: Some(outbound::tls_route::distribution::Kind::FirstAvailable(
                    outbound::tls_route::distribution::FirstAvailable {
                        backends: vec![outbound::tls_route::RouteBackend {
                            backend: Some(balanced(service)),
                            ..Default::default()
                        }],
                    },
                )),
            }),
            ..Default::default()
        }];
        let route = outbound::TlsRoute { metadata: message::by_default("tls"), snis: vec![], rules };
        pair.control_plane
            .outbound(service)
            .set(of(Kind::Tls(outbound::proxy_protocol::Tls { routes: vec![route] })));
        let db = tcp::greets("127.0.3.7:5432".parse().unwrap(), b"hello").await;
        pair.control_plane.destination(service).set(message::add([Endpoint::plain(db.addr)]));
        let tunnel = client::tunnel(pair.client.pod.outbound(), "db.demo:5432").await.unwrap();
        assert_eq!(Raw::over(tunnel).exact(5).await.unwrap(), b"hello");
    });
}

#[test]
fn each_part_of_a_redirect_is_as_told_and_the_rest_as_asked() {
    run(async || {
        let pair = Pair::start().await;
        let https = Scheme { r#type: Some(scheme::Type::Registered(scheme::Registered::Https as i32)) };
        let full = PathModifier { replace: Some(path_modifier::Replace::Full("/all".into())) };
        let cases = [
            (
                "/scheme",
                RequestRedirect { scheme: Some(https.clone()), ..Default::default() },
                301,
                "https://web.demo",
            ),
            (
                "/host",
                RequestRedirect { host: "other.example".into(), status: 302, ..Default::default() },
                302,
                "http://other.example",
            ),
            (
                "/port",
                RequestRedirect { port: 9443, status: 307, ..Default::default() },
                307,
                "http://web.demo:9443/port/x",
            ),
            (
                "/path",
                RequestRedirect { path: Some(full), status: 308, ..Default::default() },
                308,
                "http://web.demo:8080/all",
            ),
        ];
        let rules = cases.iter().map(|(path, redirect, ..)| {
            let mut rule = rule(balanced(WEB));
            rule.matches = vec![path_prefix(path)];
            rule.filters = vec![http::Filter { kind: Some(http::filter::Kind::Redirect(redirect.clone())) }];
            rule
        });
        told(&pair, rules.collect()).await;
        for (path, _, status, location) in cases {
            let said = pair.get(&format!("{path}/x")).await.is(status).header("location");
            assert!(said.starts_with(location), "{path}: {said}");
        }
        assert_eq!(pair.origin.count(), 0);
    });
}

#[test]
#[expect(deprecated, reason = "older control planes send it")]
fn a_backends_own_timeout_ends_a_try() {
    run(async || {
        let pair = Pair::start().await;
        let mut timed = rule(balanced(WEB));
        if let Some(http::distribution::Kind::FirstAvailable(first)) =
            &mut timed.backends.as_mut().unwrap().kind
        {
            first.backends[0].request_timeout = duration(Duration::from_millis(300));
        }
        told(&pair, vec![timed]).await;
        pair.get("/").await.is(200);
        let start = Instant::now();
        pair.get("/slow/10000").await.is(504);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(295) && took < Duration::from_secs(5), "{took:?}");
    });
}

#[test]
fn each_kind_of_inbound_protocol_serves_mesh_peers() {
    run(async || {
        use inbound::proxy_protocol::{Detect, Grpc, Http1, Http2, Kind, Opaque, Tls};
        let pair = Pair::start().await;
        let me = client_pod().identity();
        let routes = || vec![inbound_route("default", path_prefix("/"), vec![])];
        let only_me = |kind| message::server_of(kind, vec![authorization("me", Client::Identity(&me))]);
        let (timeout, topic) =
            (duration(Duration::from_secs(10)), pair.control_plane.inbound(&server_pod().workload(), PORT));
        for (what, kind, version) in [
            (
                "detect",
                Kind::Detect(Detect { timeout, http_routes: routes(), http_local_rate_limit: None }),
                "HTTP/1.1",
            ),
            ("http1", Kind::Http1(Http1 { routes: routes(), local_rate_limit: None }), "HTTP/1.1"),
            ("http2", Kind::Http2(Http2 { routes: routes(), local_rate_limit: None }), "HTTP/2"),
            ("grpc", Kind::Grpc(Grpc { routes: vec![] }), "HTTP/2"),
        ] {
            // Between two kinds nobody is let in, so that each is seen to have taken effect.
            topic.set(message::server(vec![]));
            let request = || {
                let mut request = client::to(&format!("http://web.demo:{PORT}/{what}"));
                if what == "grpc" {
                    *request.method_mut() = ::http::Method::POST;
                    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
                    *request.body_mut() = client::body(framed(b"hello"));
                }
                request
            };
            let becomes = async |reached: bool| {
                wait::until(what, SOON, async || {
                    pair.origin.reset();
                    let mut conn = match version {
                        "HTTP/2" => Conn::http2(pair.client.pod.outbound()).await.unwrap(),
                        _ => Conn::http1(pair.client.pod.outbound()).await.unwrap(),
                    };
                    let reply = conn.send(request()).await.map_err(|error| format!("{error:#}"))?;
                    let seen = pair.origin.count() > 0;
                    if seen == reached {
                        Ok(())
                    } else {
                        Err(format!("{} {:?}", reply.status, reply.headers))
                    }
                })
                .await;
            };
            becomes(false).await;
            topic.set(only_me(kind));
            becomes(true).await;
            let seen = pair.origin.last();
            assert_eq!((seen.uri.path(), seen.header("l5d-client-id")), (&*format!("/{what}"), me.clone()));
        }
        // Of bytes we only say who sent them: the application hears all of them as they are.
        for (what, kind) in [("opaque", Kind::Opaque(Opaque {})), ("tls", Kind::Tls(Tls {}))] {
            topic.set(message::server(vec![]));
            topic.set(only_me(kind));
            wait::until(what, SOON, async || {
                pair.origin.reset();
                let header = TransportHeader::to_port(PORT, None);
                let leaf = pair.control_plane.ca.leaf(&me, mesh_tests::pki::Validity::DAY);
                let config = pair.control_plane.ca.client(Some(leaf), ALPN);
                let stream =
                    peer::through_header(pair.server.pod.inbound(), &server_pod().identity(), config, header)
                        .await
                        .map_err(|error| format!("{error:#}"))?;
                let mut conn = Conn::http1_over(stream).await.map_err(|error| format!("{error:#}"))?;
                let mut request = client::to(&format!("/{what}"));
                request.headers_mut().insert("l5d-client-id", "as-sent".parse().unwrap());
                let status = conn.send(request).await.map_err(|error| format!("{error:#}"))?.status;
                match pair.origin.seen().pop().map(|seen| seen.header("l5d-client-id")).as_deref() {
                    Some("as-sent") => Ok(()),
                    other => Err(format!("{status}, and not as sent but {other:?}")),
                }
            })
            .await;
        }
    });
}

#[test]
fn tls_without_a_certificate_can_be_enough() {
    run(async || {
        use inbound::authn::{Permit, PermitMeshTls, PermitUnauthenticated, permit_mesh_tls::Clients};
        let pair = Pair::start().await;
        let mut any_tls = authorization("any-tls", Client::Meshed);
        any_tls.authentication = Some(inbound::Authn {
            permit: Some(Permit::MeshTls(PermitMeshTls {
                clients: Some(Clients::Unauthenticated(PermitUnauthenticated {})),
            })),
        });
        pair.control_plane.inbound(&server_pod().workload(), PORT).set(message::server(vec![any_tls]));
        let direct = pair.server.pod.port(PORT);
        wait::until("plaintext to be refused", SOON, async || match client::get(direct, "/").await {
            Ok(response) if response.status() == 403 => Ok(()),
            Ok(response) => Err(response.status().to_string()),
            Err(error) => Err(format!("{error:#}")),
        })
        .await;
        // A transport header takes an identity; to the port itself nobody has to have one.
        let anonymous = pair.control_plane.ca.client(None, &[]);
        let stream = peer::tls(direct, &server_pod().identity(), anonymous).await.unwrap();
        let mut conn = Conn::http1_over(stream).await.unwrap();
        conn.send(client::to(&format!("http://web.demo:{PORT}/"))).await.unwrap().is(200);
        assert_eq!(pair.origin.last().header("l5d-client-id"), "");
        pair.get("/").await.is(200);
        assert_eq!(pair.origin.last().header("l5d-client-id"), client_pod().identity());
    });
}
