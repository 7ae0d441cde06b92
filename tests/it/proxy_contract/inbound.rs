//! `InboundServerPolicies.WatchPort`: who may call the application's ports.

use linkerd2_proxy_api::inbound::{self, HttpLocalRateLimit, http_local_rate_limit::Limit};
use mesh_tests::{
    client::{self, Conn, raw::Raw},
    control_plane::{
        Fault,
        message::{self, Client, authorization, duration, inbound_route, path_exact, path_prefix},
    },
    grpc::Code,
    origin::tcp,
    pair::{PORT, Pair, client_pod, server_pod},
    story::run,
    wait::{self, SOON},
};
use std::time::Duration;

/// Sets the port's policy and waits until the client is answered so.
async fn then(pair: &Pair, policy: inbound::Server, what: &str, status: u16) {
    pair.control_plane.inbound(&server_pod().workload(), PORT).set(policy);
    pair.becomes(what, "/", status).await;
}

#[test]
fn a_proxy_asks_for_each_of_its_ports_from_the_start() {
    run(async || {
        let pair = Pair::start().await;
        let topic = pair.control_plane.inbound(r#"{"ns":"demo","pod":"web"}"#, PORT);
        topic.asked(1, SOON).await;
        let request: inbound::PortSpec = topic.requests().remove(0);
        assert_eq!(
            (request.workload.as_str(), request.port),
            (r#"{"ns":"demo","pod":"web"}"#, u32::from(PORT))
        );
    });
}

#[test]
fn each_kind_of_authorization_lets_in_whom_it_names_and_nobody_else() {
    run(async || {
        let pair = Pair::start().await;
        let me = client_pod().identity();
        let mut elsewhere = authorization("elsewhere", Client::Meshed);
        elsewhere.networks = vec![message::network([10, 0, 0, 0], 8)];
        let mut except_me = authorization("except", Client::Meshed);
        except_me.networks[0].except = vec![message::network([127, 0, 0, 0], 8).net.unwrap()];
        let mut suffix = authorization("suffix", Client::Meshed);
        set_suffix(&mut suffix, &["demo", "serviceaccount", "identity", "mesh", "cluster", "local"]);
        let mut other_suffix = authorization("suffix", Client::Meshed);
        set_suffix(&mut other_suffix, &["emo", "serviceaccount", "identity", "mesh", "cluster", "local"]);
        for (what, authorizations, status) in [
            ("my identity", vec![authorization("me", Client::Identity(&me))], 200),
            ("nobody", vec![], 403),
            ("anyone", vec![authorization("anyone", Client::Anyone)], 200),
            (
                "another identity",
                vec![authorization(
                    "other",
                    Client::Identity("ratings.demo.serviceaccount.identity.mesh.cluster.local"),
                )],
                403,
            ),
            ("anyone in the mesh", vec![authorization("meshed", Client::Meshed)], 200),
            ("another network", vec![elsewhere], 403),
            ("my namespace", vec![suffix], 200),
            ("a namespace that mine ends with", vec![other_suffix], 403),
            ("all networks but mine", vec![except_me], 403),
            (
                "the second of two",
                vec![
                    authorization("x", Client::Identity("x.y.serviceaccount.identity.mesh.cluster.local")),
                    authorization("me", Client::Identity(&me)),
                ],
                200,
            ),
        ] {
            then(&pair, message::server(authorizations), what, status).await;
        }
    });
}

fn set_suffix(authz: &mut inbound::Authz, parts: &[&str]) {
    use inbound::authn::{
        Permit, PermitMeshTls,
        permit_mesh_tls::{Clients, PermitClientIdentities},
    };
    let parts = parts.iter().map(|part| (*part).to_owned()).collect();
    let clients =
        PermitClientIdentities { identities: vec![], suffixes: vec![inbound::IdentitySuffix { parts }] };
    authz.authentication = Some(inbound::Authn {
        permit: Some(Permit::MeshTls(PermitMeshTls { clients: Some(Clients::Identities(clients)) })),
    });
}

#[test]
fn a_change_of_policy_counts_for_the_next_request_on_an_open_connection() {
    run(async || {
        let pair = Pair::start().await;
        let mut conn = Conn::http1(pair.client.pod.outbound()).await.unwrap();
        let uri = format!("http://web.demo:{PORT}/");
        conn.send(client::to(&uri)).await.unwrap().is(200);
        pair.control_plane.inbound(&server_pod().workload(), PORT).set(message::server(vec![]));
        wait::until("the open connection to be denied", SOON, async || {
            let reply = conn.send(client::to(&uri)).await.map_err(|error| format!("{error:#}"))?;
            if reply.status == 403 { Ok(()) } else { Err(reply.status.to_string()) }
        })
        .await;
    });
}

#[test]
fn a_denied_request_says_who_made_the_answer_and_grpc_gets_a_status() {
    run(async || {
        let pair = Pair::start().await;
        then(&pair, message::server(vec![]), "denial", 403).await;
        let reply = pair.get("/").await.is(403);
        assert_ne!(reply.header("l5d-proxy-error"), "");
        let mut request = client::to(&format!("http://web.demo:{PORT}/demo.Web/Get"));
        *request.method_mut() = http::Method::POST;
        request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        let reply =
            Conn::http2(pair.client.pod.outbound()).await.unwrap().send(request).await.unwrap().is(200);
        let status = reply.headers.get("grpc-status").or(reply.trailers.get("grpc-status")).cloned();
        assert_eq!(status.unwrap().as_bytes(), b"7");
    });
}

#[test]
fn unanswered_and_unknown_ports_follow_the_default_policy() {
    run(async || {
        for (default, status) in [
            ("deny", 403),
            ("mesh-only", 200),
            ("allow-all", 200),
            ("all-unauthenticated", 200),
            ("all-authenticated", 200),
        ] {
            for silent in [true, false] {
                let pair = Pair::start_under(
                    |control_plane| {
                        let topic = control_plane.inbound(&server_pod().workload(), PORT);
                        if silent { topic.hold() } else { topic.refuse(Code::NotFound) }
                    },
                    |client| client,
                    |server| server.knob("INBOUND_DEFAULT_POLICY", default),
                )
                .await;
                assert_eq!(pair.status("/").await, status, "{default}, silent: {silent}");
                let plain = client::get(pair.server.pod.port(PORT), "/")
                    .await
                    .map_or(0, |reply| reply.status().as_u16());
                let open = matches!(default, "allow-all" | "all-unauthenticated");
                assert_eq!(plain, if open { 200 } else { 403 }, "{default} in plaintext, silent: {silent}");
            }
        }
    });
}

#[test]
fn the_last_good_policy_survives_whatever_happens_to_the_stream() {
    run(async || {
        let pair =
            Pair::start_with(|client| client, |server| server.knob("INBOUND_DEFAULT_POLICY", "deny")).await;
        let workload = server_pod().workload();
        let topic = pair.control_plane.inbound(&workload, PORT);
        pair.becomes("the policy", "/", 200).await;
        use Fault::{End, Garbage, NotFound, Raw, Reset, Unavailable};
        for fault in [End, Unavailable, NotFound, Reset, Garbage, Raw] {
            pair.survives(&topic, fault).await;
        }
        // A server without a protocol makes no sense.
        topic.push(&inbound::Server::default());
        pair.goes_on("a server without a protocol", Duration::from_millis(500)).await;
        topic.has_a_stream().await;
        then(&pair, message::server(vec![]), "the next policy", 403).await;
    });
}

#[test]
fn an_invalid_question_leaves_the_default_policy_for_good() {
    run(async || {
        let pair = Pair::start_under(
            |control_plane| {
                control_plane.inbound(&server_pod().workload(), PORT).refuse(Code::InvalidArgument)
            },
            |client| client,
            |server| server.knob("INBOUND_DEFAULT_POLICY", "mesh-only"),
        )
        .await;
        pair.get("/").await.is(200);
        assert_eq!(client::get(pair.server.pod.port(PORT), "/").await.unwrap().status(), 403);
    });
}

#[test]
fn a_routes_authorizations_are_added_to_its_ports() {
    run(async || {
        let pair = Pair::start().await;
        let mut policy = message::server(vec![]);
        set_routes(
            &mut policy,
            vec![
                inbound_route("probe", path_exact("/healthz"), vec![authorization("probe", Client::Anyone)]),
                inbound_route("default", path_prefix("/"), vec![]),
            ],
        );
        then(&pair, policy, "the port to be closed", 403).await;
        pair.get("/healthz").await.is(200);
        pair.get("/healthz/deeper").await.is(403);
    });
}

fn set_routes(policy: &mut inbound::Server, routes: Vec<inbound::HttpRoute>) {
    use inbound::proxy_protocol::{Detect, Kind};
    let detect = Detect {
        timeout: duration(Duration::from_secs(10)),
        http_routes: routes,
        http_local_rate_limit: None,
    };
    policy.protocol = Some(inbound::ProxyProtocol { kind: Some(Kind::Detect(detect)) });
}

#[test]
fn a_request_that_no_route_matches_is_404() {
    run(async || {
        let pair = Pair::start().await;
        let mut policy = message::server(vec![authorization("anyone", Client::Anyone)]);
        set_routes(&mut policy, vec![inbound_route("only", path_prefix("/only"), vec![])]);
        then(&pair, policy, "no route", 404).await;
        pair.get("/only/this").await.is(200);
    });
}

#[test]
fn filters_of_an_inbound_route_are_applied() {
    run(async || {
        use inbound::http_route::{Filter, filter::Kind};
        use linkerd2_proxy_api::http_route::{HttpFailureInjector, RequestHeaderModifier, RequestRedirect};
        let pair = Pair::start().await;
        let filtered = |name: &str, path: &str, kind: Kind| {
            let mut route = inbound_route(name, path_prefix(path), vec![]);
            route.rules[0].filters = vec![Filter { kind: Some(kind) }];
            route
        };
        let mut policy = message::server(vec![authorization("anyone", Client::Anyone)]);
        let set = message::headers(&[("x-set", "by the route")]);
        set_routes(
            &mut policy,
            vec![
                filtered(
                    "fail",
                    "/fail",
                    Kind::FailureInjector(HttpFailureInjector {
                        status: 418,
                        message: "teapot".into(),
                        ratio: None,
                    }),
                ),
                filtered(
                    "set",
                    "/set",
                    Kind::RequestHeaderModifier(RequestHeaderModifier { set, ..Default::default() }),
                ),
                filtered(
                    "go",
                    "/go",
                    Kind::Redirect(RequestRedirect {
                        host: "elsewhere.example".into(),
                        status: 302,
                        ..Default::default()
                    }),
                ),
                inbound_route("default", path_exact("/"), vec![]),
            ],
        );
        pair.control_plane.inbound(&server_pod().workload(), PORT).set(policy);
        pair.becomes("the failure", "/fail", 418).await;
        pair.get("/set").await.is(200);
        assert_eq!(pair.origin.last().header("x-set"), "by the route");
        let location = pair.get("/go/there").await.is(302).header("location");
        assert!(
            location.starts_with("http://elsewhere.example") && location.ends_with("/go/there"),
            "{location}"
        );
    });
}

#[test]
fn requests_above_the_rate_limit_are_429() {
    run(async || {
        let pair = Pair::start().await;
        let limited = limited(HttpLocalRateLimit { total: per_second(5), ..HttpLocalRateLimit::default() });
        then(&pair, limited, "a 429", 429).await;
        pair.becomes("a 200 again", "/", 200).await;
    });
}

/// Each client has its own limit, and some have another.
#[test]
fn a_rate_limit_is_kept_for_each_identity() {
    use inbound::http_local_rate_limit::{Override, r#override::ClientIdentities};
    run(async || {
        let pair = Pair::start().await;
        let me = vec![inbound::Identity { name: client_pod().identity() }];
        for (mine, of_others, i_get, others_get) in [(0, 1_000, 429, 200), (1_000, 0, 200, 429)] {
            let clients = Some(ClientIdentities { identities: me.clone() });
            let limit = HttpLocalRateLimit {
                identity: per_second(of_others),
                overrides: vec![Override { limit: per_second(mine), clients }],
                ..HttpLocalRateLimit::default()
            };
            then(&pair, limited(limit), "the new limits", i_get).await;
            let stranger = client::get(pair.server.pod.port(PORT), "/").await.unwrap();
            assert_eq!(stranger.status(), others_get);
        }
    });
}

fn per_second(requests_per_second: u32) -> Option<Limit> {
    Some(Limit { requests_per_second })
}

/// Everybody is let in, so often.
fn limited(limit: HttpLocalRateLimit) -> inbound::Server {
    use inbound::proxy_protocol::{Detect, Kind};
    let metadata = message::resource("policy.linkerd.io", "httplocalratelimitpolicy", "demo", "web", 0);
    message::server_of(
        Kind::Detect(Detect {
            timeout: duration(Duration::from_secs(10)),
            http_routes: vec![inbound_route("default", path_prefix("/"), vec![])],
            http_local_rate_limit: Some(HttpLocalRateLimit { metadata, ..limit }),
        }),
        vec![authorization("anyone", Client::Anyone)],
    )
}

#[test]
fn the_client_identity_header_is_ours_alone() {
    run(async || {
        let pair = Pair::start().await;
        let forged = || {
            let mut request = client::to(&format!("http://web.demo:{PORT}/"));
            for name in ["l5d-client-id", "L5d-Client-Id", "l5d_client_id", "l5d-Client_id"] {
                let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                request
                    .headers_mut()
                    .append(name, "evil.demo.serviceaccount.identity.mesh.cluster.local".parse().unwrap());
            }
            request
        };
        pair.send(forged()).await.is(200);
        let meshed = pair.origin.last();
        assert_eq!(meshed.header("l5d-client-id"), client_pod().identity());
        client::send(pair.server.pod.port(PORT), forged()).await.unwrap().is(200);
        let plain = pair.origin.last();
        assert_eq!(plain.header("l5d-client-id"), "");
        for seen in [meshed, plain] {
            assert!(!format!("{:?}", seen.headers).contains("evil"), "{:?}", seen.headers);
        }
    });
}

#[test]
fn an_opaque_port_is_forwarded_unread_and_closed_when_it_is_denied() {
    run(async || {
        let pair = Pair::start().await;
        drop(pair.origin);
        let echo = tcp::echo(server_pod().app(PORT)).await;
        let topic = pair.control_plane.inbound(&server_pod().workload(), PORT);
        let opaque = || inbound::proxy_protocol::Kind::Opaque(inbound::proxy_protocol::Opaque {});
        topic.set(message::server_of(opaque(), vec![authorization("anyone", Client::Anyone)]));
        let mut open = wait::until("an opaque connection", SOON, async || {
            let mut raw = Raw::connect(pair.server.pod.port(PORT)).await?;
            raw.write("GET / HTTP/1.1\r\n\r\n").await?;
            anyhow::ensure!(raw.exact(18).await? == b"GET / HTTP/1.1\r\n\r\n", "not echoed");
            anyhow::Ok(raw)
        })
        .await;
        topic.set(message::server_of(opaque(), vec![]));
        let connections = echo.received().len();
        assert_eq!(open.to_end().await.unwrap(), b"", "the open connection ends when policy turns to deny");
        // A denied connection is reset at once: before, while or after we write.
        if let Ok(mut raw) = Raw::connect(pair.server.pod.port(PORT)).await {
            let _ = raw.write("hello").await;
            assert_eq!(raw.to_end().await.unwrap_or_default(), b"");
        }
        assert_eq!(echo.received().len(), connections, "a denied connection reached the application");
    });
}

#[test]
fn a_connection_for_another_address_than_the_pods_is_not_forwarded() {
    run(async || {
        let pair = Pair::start_with(|client| client, |server| server.knob("INBOUND_IPS", "10.0.0.1")).await;
        let strange = client::get(server_pod().port(PORT), "/").await;
        assert!(strange.is_err() && pair.origin.count() == 0, "{strange:?}");
        // What a peer's proxy sends is for this pod, by whatever address it came.
        assert_eq!(pair.status("/").await, 200);
    });
}
