//! `Destination.Get`: which endpoints there are.

use linkerd2_proxy_api::destination;
use mesh_tests::{
    control_plane::{
        Fault,
        message::{self, Endpoint},
    },
    grpc::Code,
    origin::Origin,
    pair::{PORT, Pair, WEB, client_pod},
    story::run,
    wait::{self, SOON},
};
use std::{net::SocketAddr, time::Duration};

/// Unmeshed origins, so that what is seen is about endpoints only.
async fn origin(number: u8) -> Origin {
    Origin::start(&format!("web-{number}"), SocketAddr::from(([127, 0, 3, number], PORT))).await
}

async fn pair_with(origins: &[&Origin]) -> Pair {
    let pair = Pair::start().await;
    pair.control_plane.destination(WEB).set(all(origins));
    pair
}

fn all(origins: &[&Origin]) -> destination::Update {
    message::add(origins.iter().map(|origin| Endpoint::plain(origin.addr)))
}

/// Which origins answer ten requests.
async fn who(pair: &Pair) -> Vec<String> {
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let reply = pair.get("/").await;
        names.insert(if reply.status == 200 { reply.text() } else { reply.status.to_string() });
    }
    names.into_iter().collect()
}

async fn becomes(pair: &Pair, what: &str, expected: &[&str]) {
    wait::until(what, SOON, async || match who(pair).await {
        names if names == expected => Ok(()),
        names => Err(format!("{names:?}")),
    })
    .await;
}

#[test]
fn a_proxy_asks_only_when_an_application_does_and_says_where_it_stands() {
    run(async || {
        let pair = Pair::start().await;
        let topic = pair.control_plane.destination(WEB);
        assert_eq!(topic.times_asked(), 0);
        pair.get("/").await.is(200);
        let request: destination::GetDestination = topic.requests().remove(0);
        assert_eq!(request.path, WEB);
        assert_eq!(request.context_token, r#"{"ns":"demo","nodeName":"test","pod":"client"}"#);
    });
}

#[test]
fn endpoints_come_and_go_as_they_are_told() {
    run(async || {
        let (one, two) = (origin(1).await, origin(2).await);
        let pair = pair_with(&[&one]).await;
        let topic = pair.control_plane.destination(WEB);
        becomes(&pair, "the first endpoint", &["web-1"]).await;
        topic.push(&all(&[&two]));
        becomes(&pair, "a second endpoint beside it", &["web-1", "web-2"]).await;
        topic.push(&message::remove([one.addr]));
        becomes(&pair, "the second alone", &["web-2"]).await;
    });
}

#[test]
fn the_first_message_of_a_new_stream_replaces_what_was_known() {
    run(async || {
        let (one, two) = (origin(1).await, origin(2).await);
        let pair = pair_with(&[&one]).await;
        let topic = pair.control_plane.destination(WEB);
        becomes(&pair, "the first endpoint", &["web-1"]).await;
        topic.first([&all(&[&two])]);
        topic.end(Code::Unavailable);
        becomes(&pair, "the new stream's endpoint alone", &["web-2"]).await;
        // A leading `remove` says nothing about a set that has not begun.
        topic.first([&message::remove([two.addr]), &all(&[&one])]);
        topic.reset();
        becomes(&pair, "the set after a leading remove", &["web-1"]).await;
    });
}

#[test]
fn the_last_endpoints_are_kept_whatever_happens_to_the_stream() {
    run(async || {
        let one = origin(1).await;
        let pair = pair_with(&[&one]).await;
        let topic = pair.control_plane.destination(WEB);
        becomes(&pair, "the endpoint", &["web-1"]).await;
        use Fault::{End, Garbage, NotFound, Raw, Reset, Unavailable};
        for fault in [End, Unavailable, NotFound, Reset, Garbage, Raw] {
            pair.survives(&topic, fault).await;
        }
        topic.push(&destination::Update { update: None });
        pair.goes_on("an update that says nothing", Duration::from_millis(500)).await;
        topic.has_a_stream().await;
    });
}

#[test]
fn a_service_without_endpoints_fails_fast_and_works_when_one_comes() {
    run(async || {
        for exists in [true, false] {
            let one = origin(1).await;
            let pair = pair_with(&[&one]).await;
            becomes(&pair, "the endpoint", &["web-1"]).await;
            let topic = pair.control_plane.destination(WEB);
            topic.push(&message::no_endpoints(exists));
            wait::until("failure", SOON, async || match pair.status("/").await {
                503 => Ok(()),
                status => Err(status),
            })
            .await;
            // Once it fails fast, nobody waits.
            let asked = std::time::Instant::now();
            let reply = pair.get("/").await;
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
            assert_eq!(reply.is(503).header("l5d-proxy-error"), "no endpoint available");
            topic.push(&all(&[&one]));
            becomes(&pair, "the endpoint again", &["web-1"]).await;
        }
    });
}

#[test]
fn a_request_waits_for_the_first_endpoint_no_longer_than_the_queue_says() {
    run(async || {
        let one = origin(1).await;
        let pair = Pair::start().await;
        let topic = pair.control_plane.destination(WEB);
        topic.hold();
        let start = std::time::Instant::now();
        let status = pair.status("/").await;
        assert_eq!(status, 503);
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        topic.set(all(&[&one]));
        becomes(&pair, "the endpoint", &["web-1"]).await;
    });
}

#[test]
fn a_refused_question_fails_and_is_asked_again_only_seldom() {
    run(async || {
        let pair = Pair::start().await;
        let topic = pair.control_plane.destination(WEB);
        topic.refuse(Code::InvalidArgument);
        let status = pair.status("/").await;
        assert!((500..=504).contains(&status), "{status}");
        topic.is_asked_seldom().await;
    });
}

#[test]
fn endpoints_that_make_no_sense_are_left_out_and_the_others_serve() {
    run(async || {
        let one = origin(1).await;
        let pair = Pair::start().await;
        let mut broken =
            message::add([Endpoint::plain(one.addr), Endpoint::plain(one.addr), Endpoint::plain(one.addr)]);
        let Some(destination::update::Update::Add(set)) = &mut broken.update else { unreachable!() };
        set.addrs[0].addr = None;
        set.addrs[1].addr.as_mut().unwrap().port = 70_000;
        pair.control_plane.destination(WEB).set(broken);
        becomes(&pair, "the endpoint that makes sense", &["web-1"]).await;
    });
}

/// An identity that cannot be read must never turn into plaintext.
#[test]
fn an_endpoint_with_an_unreadable_identity_is_not_used_in_plaintext() {
    run(async || {
        use destination::tls_identity::{DnsLikeIdentity, Strategy, UriLikeIdentity};
        let one = origin(1).await;
        let pair = Pair::start().await;
        let name = client_pod().identity();
        for identity in [
            destination::TlsIdentity { strategy: None, server_name: None },
            destination::TlsIdentity {
                strategy: Some(Strategy::DnsLikeIdentity(DnsLikeIdentity { name: "not a name".into() })),
                server_name: Some(DnsLikeIdentity { name: "not a name".into() }),
            },
            destination::TlsIdentity {
                strategy: Some(Strategy::UriLikeIdentity(UriLikeIdentity { uri: "spiffe://x/y".into() })),
                server_name: Some(DnsLikeIdentity { name }),
            },
        ] {
            let mut update = all(&[&one]);
            let Some(destination::update::Update::Add(set)) = &mut update.update else { unreachable!() };
            set.addrs[0].tls_identity = Some(identity.clone());
            let topic = pair.control_plane.destination(WEB);
            topic.first([&update]);
            topic.push(&message::no_endpoints(true));
            topic.push(&update);
            let status = pair.status("/").await;
            assert!((500..=504).contains(&status), "{status} with {identity:?}");
            assert_eq!(one.count(), 0, "{identity:?}");
        }
    });
}
