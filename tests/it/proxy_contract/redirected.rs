//! Connections that the kernel redirected to the proxy, as on a cluster: their original destination is what is asked for.

use mesh_tests::{
    client::{self, raw::Raw},
    control_plane::message,
    netns,
    origin::tcp,
    pair::{Pair, WEB},
    story::run,
    wait::SOON,
};
use std::{
    io::Write,
    process::{Command, Stdio},
};

const SERVICE: &str = "10.241.0.10:8080";
const DATABASE: &str = "10.241.0.11:3306";

/// Sends what goes to Services to the proxy. `false` where the network is not ours alone: the rules would be the whole machine's.
fn redirect() -> bool {
    if !netns::is_own() {
        return false;
    }
    let rules = "table ip mesh {
        chain output {
            type nat hook output priority -100
            ip daddr 10.241.0.0/16 meta l4proto tcp redirect to :4140
        }
    }";
    let route =
        Command::new("ip").args(["route", "add", "10.241.0.0/16", "dev", "lo", "src", "127.0.0.1"]).status();
    assert!(route.expect("ip, of iproute2, is there").success(), "the route was refused");
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft, of nftables, is there");
    nft.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("nft reads its rules");
    assert!(nft.wait().expect("a child can be waited for").success(), "the rules were refused");
    true
}

#[test]
fn a_redirected_connection_is_asked_for_by_its_original_address() {
    run(async || {
        if !redirect() {
            println!("only root has a network of its own to redirect in; nothing was tested");
            return;
        }
        let pair = Pair::start_under(
            |control_plane| {
                control_plane.outbound(SERVICE).set(message::plain_policy(WEB));
                let db = "db.demo.svc.cluster.local:3306";
                control_plane.outbound(DATABASE).set(message::opaque_policy(db));
                let plain = message::Endpoint::plain("127.0.3.7:3306".parse().unwrap());
                control_plane.destination(db).set(message::add([plain]));
            },
            |client| client.knob("OUTBOUND_LISTEN_ADDR", "127.0.0.1:4140"),
            |server| server.knob("OUTBOUND_LISTEN_ADDR", "127.0.1.2:4140"),
        )
        .await;
        // The name in the request is the application's own affair: the address decides.
        let mut request = client::to("/redirected");
        request.headers_mut().insert("host", "any.name.example".parse().unwrap());
        client::send(SERVICE.parse().unwrap(), request).await.unwrap().is(200);
        let seen = pair.origin.last();
        assert_eq!((seen.header("host"), seen.uri.path()), ("any.name.example".into(), "/redirected"));
        assert_eq!(seen.header("l5d-client-id"), pair.client.pod.identity());
        pair.control_plane.outbound(SERVICE).asked(1, SOON).await;

        let _db = tcp::greets("127.0.3.7:3306".parse().unwrap(), b"hello").await;
        let mut raw = Raw::connect(DATABASE.parse().unwrap()).await.unwrap();
        assert_eq!(raw.exact(5).await.unwrap(), b"hello");
    });
}
