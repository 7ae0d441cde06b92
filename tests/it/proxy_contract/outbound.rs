//! `OutboundPolicies.Watch`: where requests may go, by which routes.

use linkerd2_proxy_api::{
    http_route::HttpFailureInjector,
    outbound::{self, http_route as http},
};
use mesh_tests::{
    client::{self},
    control_plane::{
        Fault,
        message::{self, Endpoint, balanced, policy, rule},
    },
    grpc::Code,
    hosts::Hosts,
    origin::Origin,
    pair::{Pair, WEB},
    story::run,
    wait::{self, SOON},
};
use std::time::{Duration, Instant};

#[test]
fn a_proxy_asks_by_the_full_authority_once_and_only_when_it_is_needed() {
    run(async || {
        let pair = Pair::start().await;
        let topic = pair.control_plane.outbound(WEB);
        assert_eq!(topic.times_asked(), 0);
        for host in [
            "web.demo:8080",
            "web:8080",
            "web.demo.svc:8080",
            "web.demo.svc.cluster.local:8080",
            "WEB.demo:8080",
        ] {
            pair.send(client::to(&format!("http://{host}/"))).await.is(200);
        }
        let requests: Vec<outbound::TrafficSpec> = topic.requests();
        assert_eq!(requests.len(), 1, "asked: {:?}", pair.control_plane.asked());
        assert_eq!(requests[0].source_workload, r#"{"ns":"demo","pod":"client"}"#);
        assert_eq!(message::target(requests[0].clone()), WEB);
    });
}

#[test]
fn origin_form_with_host_and_absolute_form_mean_the_same() {
    run(async || {
        let pair = Pair::start().await;
        let mut request = client::to("/by-host");
        request.headers_mut().insert("host", "web.demo:8080".parse().unwrap());
        pair.send(request).await.is(200);
        pair.send(client::to("http://web.demo:8080/by-target")).await.is(200);
        let seen: Vec<_> =
            pair.origin.seen().iter().map(|seen| (seen.uri.to_string(), seen.header("host"))).collect();
        assert_eq!(
            seen,
            [("/by-host".into(), "web.demo:8080".into()), ("/by-target".into(), "web.demo:8080".to_owned())]
        );
    });
}

#[test]
fn what_the_control_plane_does_not_know_is_forwarded_as_without_mesh() {
    run(async || {
        let pair = Pair::start().await;
        let outside = Origin::start("outside", "127.0.0.1:8099".parse().unwrap()).await;
        for code in [Code::NotFound, Code::Unimplemented] {
            pair.control_plane.outbound("localhost:8099").refuse(code);
            pair.control_plane.outbound("127.0.0.1:8099").refuse(code);
            for host in ["localhost:8099", "127.0.0.1:8099"] {
                let reply = pair.send(client::to(&format!("http://{host}/"))).await.is(200);
                assert_eq!(
                    (reply.text(), outside.last().header("host")),
                    ("outside".into(), host.to_owned())
                );
            }
        }
    });
}

/// Asked for all the while, so that it is never forgotten and looked up anew.
#[test]
fn a_name_outside_the_mesh_that_moves_is_found() {
    run(async || {
        let hosts = Hosts::new();
        hosts.say("127.0.9.1 moving.example");
        let pair = Pair::start().await;
        let _old = Origin::start("old", "127.0.9.1:8099".parse().unwrap()).await;
        let _new = Origin::start("new", "127.0.9.2:8099".parse().unwrap()).await;
        pair.control_plane.outbound("moving.example:8099").refuse(Code::NotFound);
        let answer = async || pair.send(client::to("http://moving.example:8099/")).await.is(200).text();
        assert_eq!(answer().await, "old");
        hosts.say("127.0.9.2 moving.example");
        wait::until("the name's new place", Duration::from_secs(15), async || match answer().await {
            new if new == "new" => Ok(()),
            other => Err(other),
        })
        .await;
    });
}

#[test]
fn a_refused_question_fails_and_is_asked_again_only_seldom() {
    run(async || {
        let pair = Pair::start().await;
        for code in [Code::InvalidArgument, Code::FailedPrecondition] {
            let target = format!("refused-{}.demo.svc.cluster.local:80", code as i32);
            let topic = pair.control_plane.outbound(&target);
            topic.refuse(code);
            let status = pair.send(client::to(&format!("http://{target}/"))).await.status.as_u16();
            assert!((400..=504).contains(&status), "{status}");
            topic.is_asked_seldom().await;
        }
    });
}

#[test]
fn the_first_answer_is_awaited_and_no_longer_than_a_few_seconds() {
    run(async || {
        let pair = Pair::start().await;
        let topic = pair.control_plane.outbound(WEB);
        topic.hold();
        let start = Instant::now();
        let status = pair.status("/").await;
        assert_eq!(status, 503);
        assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
        // What has waited long enough in vain is not waited for again, and works with the first answer.
        topic.set(message::plain_policy(WEB));
        pair.becomes("the first answer", "/", 200).await;
    });
}

#[test]
fn the_last_good_policy_survives_whatever_happens_to_the_stream() {
    run(async || {
        let pair = Pair::start().await;
        pair.get("/").await.is(200);
        let topic = pair.control_plane.outbound(WEB);
        use Fault::{End, Garbage, Raw, Reset, Unavailable};
        for fault in [End, Unavailable, Reset, Garbage, Raw] {
            pair.survives(&topic, fault).await;
        }
    });
}

/// Each field that the contract calls required, missing. As the first answer it fails requests with the field's path; over a good
/// one it changes nothing, not even for the rules in it that make sense.
#[test]
fn a_policy_that_makes_no_sense_is_never_half_obeyed() {
    run(async || {
        let pair = Pair::start().await;
        let wrong = Origin::start("wrong", "127.0.3.1:8080".parse().unwrap()).await;
        let to_wrong = "wrong.demo.svc.cluster.local:8080";
        pair.control_plane.destination(to_wrong).set(message::add([Endpoint::plain(wrong.addr)]));
        let broken: [(&str, fn(&mut http::Rule)); 4] = [
            ("no backend metadata", |rule| message::backend(rule).metadata = None),
            ("no queue", |rule| message::backend(rule).queue = None),
            ("retry without conditions", |rule| {
                rule.retry = message::retry(1);
                rule.retry.as_mut().unwrap().conditions = None;
            }),
            ("a match that cannot be read", |rule| rule.matches[0].path.as_mut().unwrap().kind = None),
        ];
        for (number, (what, break_it)) in broken.into_iter().enumerate() {
            let path = format!("bad-{number}.demo.svc.cluster.local:8080");
            let topic = pair.control_plane.outbound(&path);
            let get = async |path_of: &str| {
                pair.send(client::to(&format!("http://bad-{number}.demo:8080{path_of}"))).await
            };
            // Its first rule is good, and goes where nothing may go.
            let mut bad = rule(balanced(to_wrong));
            break_it(&mut bad);
            let bad = policy(&path, vec![rule(balanced(to_wrong)), bad]);
            topic.first([&bad]);
            let first = get("/").await.is(500);
            assert_eq!(first.header("l5d-proxy-error"), "invalid policy", "{what}");
            let log = pair.client.process.log();
            let told = log.lines().any(|line| {
                line.contains(&format!("bad-{number}."))
                    && line.contains("invalid client policy configuration: protocol.")
            });
            assert!(told, "{what}: {log}");

            topic.set(policy(&path, vec![rule(balanced(WEB))]));
            wait::until("the good policy", SOON, async || match get("/").await {
                reply if reply.status == 200 => Ok(()),
                reply => Err(format!("{what}: {}", reply.status)),
            })
            .await;
            topic.push(&bad);
            // What comes after it on the same stream shows that it was heard.
            let mut marker = rule(balanced(WEB));
            marker.matches = vec![message::path_exact("/marker")];
            marker.filters = vec![http::Filter {
                kind: Some(http::filter::Kind::FailureInjector(HttpFailureInjector {
                    status: 299,
                    ..Default::default()
                })),
            }];
            topic.set(policy(&path, vec![marker, rule(balanced(WEB))]));
            wait::until("the policy after it", SOON, async || {
                get("/").await.is(200);
                match get("/marker").await.status.as_u16() {
                    299 => Ok(()),
                    status => Err(status),
                }
            })
            .await;
            assert_eq!(wrong.count(), 0, "{what}");
        }
    });
}

#[test]
fn an_idle_target_is_forgotten_and_asked_for_anew() {
    run(async || {
        let pair =
            Pair::start_with(|client| client.knob("OUTBOUND_DISCOVERY_IDLE_TIMEOUT", "1s"), |server| server)
                .await;
        pair.get("/").await.is(200);
        let topic = pair.control_plane.outbound(WEB);
        assert_eq!(topic.streams(), 1);
        wait::until("the stream to end", SOON, async || {
            (topic.streams() == 0).then_some(()).ok_or("still open")
        })
        .await;
        pair.get("/").await.is(200);
        assert_eq!(topic.times_asked(), 2);
    });
}
