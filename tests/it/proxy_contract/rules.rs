//! What a rule of `OutboundPolicies.Watch` can say: matches, filters, backends, timeouts, retries.

use linkerd2_proxy_api::{
    http_route::{
        HttpFailureInjector, RequestHeaderModifier, RequestRedirect, ResponseHeaderModifier, Timeouts,
    },
    outbound::{self, http_route as http},
};
use mesh_tests::{
    client::{self, Conn, raw::Raw},
    control_plane::message::{
        self, Endpoint, balanced, duration, header_exact, path_exact, path_prefix, policy, rule,
    },
    grpc::Code,
    origin::Origin,
    pair::{PORT, Pair, WEB},
    story::{run, run_alone},
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Sets the policy towards `web` and waits until it is what the proxy does: a marker rule says which policy is in force.
pub(super) async fn told(pair: &Pair, rules: Vec<http::Rule>) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let path = format!("/marker-{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let mut marker = rule(balanced(WEB));
    marker.matches = vec![path_exact(&path)];
    marker.filters = vec![fails(299, "marker")];
    marker.backends = nowhere();
    let rules = std::iter::once(marker).chain(rules).collect();
    pair.control_plane.outbound(WEB).set(policy(WEB, rules));
    pair.becomes("the new policy", &path, 299).await;
}

/// A distribution over nothing: no Service is looked up for it.
fn nowhere() -> Option<http::Distribution> {
    Some(http::Distribution { kind: Some(http::distribution::Kind::Empty(http::distribution::Empty {})) })
}

pub(super) fn fails(status: u32, message: &str) -> http::Filter {
    http::Filter {
        kind: Some(http::filter::Kind::FailureInjector(HttpFailureInjector {
            status,
            message: message.into(),
            ratio: None,
        })),
    }
}

#[test]
fn weights_split_the_traffic() {
    run(async || {
        let pair = Pair::start().await;
        let (nine, one) = (origin(1).await, origin(2).await);
        let (to_nine, to_one) = ("nine.demo.svc.cluster.local:8080", "one.demo.svc.cluster.local:8080");
        pair.control_plane.destination(to_nine).set(message::add([Endpoint::plain(nine.addr)]));
        pair.control_plane.destination(to_one).set(message::add([Endpoint::plain(one.addr)]));
        let mut split = rule(balanced(WEB));
        split.backends =
            message::weighted([(balanced(to_nine), 90), (balanced(to_one), 10), (balanced(WEB), 0)]);
        told(&pair, vec![split]).await;
        let mut conn = Conn::http1(pair.client.pod.outbound()).await.unwrap();
        for _ in 0..1000 {
            conn.send(client::to("http://web.demo:8080/")).await.unwrap().is(200);
        }
        assert_eq!(pair.origin.count(), 0);
        // Five standard deviations of a fair split.
        assert!((52..=148).contains(&one.count()), "{} of 1,000 with weight 10 of 100", one.count());
    });
}

async fn origin(number: u8) -> Origin {
    Origin::start(&format!("web-{number}"), SocketAddr::from(([127, 0, 3, number], PORT))).await
}

#[test]
fn the_most_specific_match_wins_whatever_the_order() {
    run(async || {
        let pair = Pair::start().await;
        let answering = |status: u32, matching| {
            let mut rule = rule(balanced(WEB));
            rule.matches = vec![matching];
            rule.filters = vec![fails(status, "")];
            rule
        };
        let mut by_header = path_prefix("/shop");
        by_header.headers = vec![header_exact("end-user", "jason")];
        let rules = vec![
            answering(240, path_prefix("/")),
            answering(241, path_prefix("/shop")),
            answering(242, by_header),
            answering(243, path_prefix("/shop/books")),
            answering(244, path_exact("/shop/books/1")),
        ];
        for order in [rules.clone(), rules.into_iter().rev().collect()] {
            told(&pair, order).await;
            for (path, user, expected) in [
                ("/else", "", 240),
                ("/shop", "", 241),
                ("/shopping", "", 240),
                ("/shop/", "jason", 242),
                ("/shop/", "Jason", 241),
                ("/shop/books", "jason", 243),
                ("/shop/books/1", "jason", 244),
                ("/shop/books/1?x=1", "", 244),
                ("/shop/books/12", "", 243),
            ] {
                let mut request = client::to(&format!("http://web.demo:{PORT}{path}"));
                request.headers_mut().insert("end-user", user.parse().unwrap());
                let status = pair.send(request).await.status.as_u16();
                assert_eq!(status, expected, "{path} of {user:?}");
            }
        }
    });
}

#[test]
fn a_request_that_no_route_matches_is_404_and_says_so() {
    run(async || {
        let pair = Pair::start().await;
        let mut only = rule(balanced(WEB));
        only.matches = vec![path_prefix("/only")];
        told(&pair, vec![only]).await;
        pair.get("/only/this").await.is(200);
        assert_ne!(pair.get("/else").await.is(404).header("l5d-proxy-error"), "");
    });
}

#[test]
fn filters_change_redirect_and_fail_requests() {
    run(async || {
        let pair = Pair::start().await;
        let filtered = |path: &str, kinds: Vec<http::filter::Kind>| {
            let mut rule = rule(balanced(WEB));
            rule.matches = vec![path_prefix(path)];
            rule.filters = kinds.into_iter().map(|kind| http::Filter { kind: Some(kind) }).collect();
            rule
        };
        let request_headers = RequestHeaderModifier {
            set: message::headers(&[("x-set", "new")]),
            add: message::headers(&[("x-add", "second")]),
            remove: vec!["x-remove".into()],
        };
        let response_headers =
            ResponseHeaderModifier { set: message::headers(&[("x-response", "set")]), ..Default::default() };
        told(
            &pair,
            vec![
                filtered(
                    "/headers",
                    vec![
                        http::filter::Kind::RequestHeaderModifier(request_headers),
                        http::filter::Kind::ResponseHeaderModifier(response_headers),
                    ],
                ),
                filtered(
                    "/old",
                    vec![http::filter::Kind::Redirect(RequestRedirect {
                        path: Some(linkerd2_proxy_api::http_route::PathModifier {
                            replace: Some(linkerd2_proxy_api::http_route::path_modifier::Replace::Prefix(
                                "/new".into(),
                            )),
                        }),
                        status: 301,
                        ..Default::default()
                    })],
                ),
                filtered(
                    "/fail",
                    vec![http::filter::Kind::FailureInjector(HttpFailureInjector {
                        status: 555,
                        message: "as told".into(),
                        ratio: None,
                    })],
                ),
            ],
        )
        .await;

        let mut request = client::to(&format!("http://web.demo:{PORT}/headers"));
        for (name, value) in [("x-set", "old"), ("x-add", "first"), ("x-remove", "gone")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let reply = pair.send(request).await.is(200);
        let seen = pair.origin.last();
        assert_eq!(
            (seen.header("x-set"), seen.header("x-add"), seen.header("x-remove"), reply.header("x-response")),
            ("new".into(), "first|second".into(), String::new(), "set".into())
        );
        let location = pair.get("/old/book?x=1").await.is(301).header("location");
        assert!(location.contains("/new/book"), "{location}");
        pair.get("/fail").await.is(555);
    });
}

#[test]
fn a_failure_ratio_fails_its_share() {
    run(async || {
        let pair = Pair::start().await;
        let mut half = rule(balanced(WEB));
        half.filters = vec![http::Filter {
            kind: Some(http::filter::Kind::FailureInjector(HttpFailureInjector {
                status: 503,
                message: "half".into(),
                ratio: Some(linkerd2_proxy_api::http_route::Ratio { numerator: 1, denominator: 2 }),
            })),
        }];
        told(&pair, vec![half]).await;
        let mut failed = 0;
        for _ in 0..400 {
            failed += u32::from(pair.get("/").await.status == 503);
        }
        assert!((150..=250).contains(&failed), "{failed} of 400 at a ratio of 1/2");
    });
}

#[test]
fn a_request_timeout_answers_504_in_time() {
    run_alone(async || {
        let pair = Pair::start().await;
        let mut timed = rule(balanced(WEB));
        timed.timeouts =
            Some(Timeouts { request: duration(Duration::from_millis(500)), ..Default::default() });
        told(&pair, vec![timed]).await;
        pair.get("/").await.is(200);
        let start = Instant::now();
        let reply = pair.get("/slow/5000").await.is(504);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(490) && took <= Duration::from_millis(600), "{took:?}");
        assert_ne!(reply.header("l5d-proxy-error"), "");
    });
}

#[test]
fn retries_mask_every_second_failure_and_replay_the_body() {
    run(async || {
        let pair = Pair::start().await;
        let mut retried = rule(balanced(WEB));
        retried.retry = message::retry(1);
        told(&pair, vec![retried]).await;
        let turn = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        pair.origin.answers(move |req| {
            let fail = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2);
            async move {
                let body = http_body_util::BodyExt::collect(req.into_body())
                    .await
                    .map(|body| body.to_bytes())
                    .unwrap_or_default();
                if fail {
                    return mesh_tests::origin::text(503, "every second");
                }
                mesh_tests::origin::text(200, &String::from_utf8_lossy(&body))
            }
        });
        pair.origin.reset();
        for number in 0..20 {
            let mut request = client::to(&format!("http://web.demo:{PORT}/"));
            *request.method_mut() = ::http::Method::POST;
            *request.body_mut() = client::body(format!("body {number}"));
            assert_eq!(pair.send(request).await.is(200).text(), format!("body {number}"));
        }
        assert_eq!(pair.origin.count(), 40);
    });
}

/// A pause that ends after the request's deadline is not begun: the answer that is there is better than none in time.
#[test]
fn a_retry_that_would_come_too_late_is_not_waited_for() {
    run_alone(async || {
        let pair = Pair::start().await;
        let mut timed = rule(balanced(WEB));
        timed.timeouts =
            Some(Timeouts { request: duration(Duration::from_millis(500)), ..Default::default() });
        timed.retry = message::retry(3);
        timed.retry.as_mut().unwrap().backoff = Some(outbound::ExponentialBackoff {
            min_backoff: duration(Duration::from_secs(2)),
            max_backoff: duration(Duration::from_secs(2)),
            jitter_ratio: 0.0,
            respect_retry_after_hint: false,
        });
        told(&pair, vec![timed]).await;
        let start = Instant::now();
        pair.get("/status/503").await.is(503);
        let took = start.elapsed();
        assert!(took <= Duration::from_millis(600), "{took:?}");
    });
}

#[test]
fn under_total_failure_retries_stay_within_their_budget() {
    run_alone(async || {
        let pair = Pair::start().await;
        let mut retried = rule(balanced(WEB));
        retried.retry = message::retry(3);
        told(&pair, vec![retried]).await;
        pair.origin.answers_status(503);
        pair.origin.reset();
        let start = Instant::now();
        let load = mesh_tests::load::Load::start(pair.client.pod.outbound(), 100, 8, || {
            client::to("http://web.demo:8080/")
        });
        let outcomes = load.run_for(Duration::from_secs(5)).await;
        let (sent, reached) = (outcomes.len(), pair.origin.count());
        assert!(outcomes.iter().all(|outcome| outcome.failure().is_some()));
        // Each once, a fifth of all, and ten a second with one second's worth in hand at the start.
        let allowed = sent as f64 * 1.2 + 10.0 * (start.elapsed().as_secs_f64() + 1.0);
        assert!(
            (reached as f64) <= allowed,
            "{reached} requests reached the origin for {sent} sent (at most {allowed:.0})"
        );
        assert!(reached > sent, "nothing was retried: {reached} for {sent}");
    });
}

#[test]
fn no_backend_is_500_and_an_unset_backend_is_a_server_error() {
    run(async || {
        let pair = Pair::start().await;
        let mut empty = rule(balanced(WEB));
        empty.matches = vec![path_prefix("/empty")];
        empty.backends = nowhere();
        let mut unset = rule(balanced(WEB));
        unset.matches = vec![path_prefix("/unset")];
        message::backend(&mut unset).kind = None;
        let mut injected = unset.clone();
        injected.matches = vec![path_prefix("/injected")];
        injected.filters = vec![fails(500, "Service not found web-v3")];
        told(&pair, vec![empty, unset, injected]).await;
        pair.get("/empty").await.is(500);
        let status = pair.get("/unset").await.status.as_u16();
        assert!((500..=503).contains(&status), "{status}");
        pair.get("/injected").await.is(500);
    });
}

#[test]
fn a_forward_backend_needs_no_discovery() {
    run(async || {
        let pair = Pair::start().await;
        let one = origin(1).await;
        let forward = message::forward(Endpoint::plain(one.addr), message::by_default("egress-fallback"));
        pair.control_plane.destination(WEB).refuse(Code::InvalidArgument);
        told(&pair, vec![rule(forward)]).await;
        assert_eq!(pair.get("/").await.is(200).text(), "web-1");
    });
}

#[test]
fn the_first_available_backend_is_the_first_with_endpoints() {
    run(async || {
        let pair = Pair::start().await;
        let empty = "empty.demo.svc.cluster.local:8080";
        pair.control_plane.destination(empty).set(message::no_endpoints(true));
        let mut two = rule(balanced(empty));
        let Some(http::distribution::Kind::FirstAvailable(first)) = &mut two.backends.as_mut().unwrap().kind
        else {
            unreachable!()
        };
        first.backends.push(http::RouteBackend { backend: Some(balanced(WEB)), ..Default::default() });
        told(&pair, vec![two]).await;
        pair.becomes("the second backend", "/", 200).await;
    });
}

#[test]
fn a_tunnel_is_refused_where_policy_is_known_to_let_nothing_pass() {
    run(async || {
        let pair = Pair::start().await;
        let forbidden = "web.demo.svc.cluster.local:81";
        pair.control_plane.outbound(forbidden).set(message::forbidden_policy(forbidden));
        pair.control_plane.outbound("web.demo.svc.cluster.local:82").refuse(Code::InvalidArgument);
        for (target, version, status) in [
            ("web.demo:81", "1.1", 403),
            ("web.demo:82", "1.1", 500),
            ("web.demo:8080", "1.0", 400),
            ("web.demo:8080", "1.1", 200),
        ] {
            let mut raw = Raw::connect(pair.client.pod.outbound()).await.unwrap();
            raw.write(format!("CONNECT {target} HTTP/{version}\r\nhost: {target}\r\n\r\n")).await.unwrap();
            let head = raw.head().await.unwrap();
            assert_eq!(head.split(' ').nth(1), Some(status.to_string().as_str()), "{target}: {head}");
        }
        assert_eq!(pair.origin.count(), 0);
    });
}
