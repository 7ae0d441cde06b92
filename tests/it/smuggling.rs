//! Requests that two parsers could read differently, as raw bytes through the real binary: answered 400 (or 431, 501, 505) and
//! never forwarded. The catalogue in full is unit-tested in the proxy; here is one row of each family, on both sides of the proxy.

use mesh_tests::{
    client::{self, raw},
    origin::tcp,
    pair::{PORT, Pair, server_pod},
    story::run,
    wait::{self, SOON},
};
use std::{net::SocketAddr, time::Duration};

/// Name, bytes, and the statuses that refuse them.
fn refused() -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let get = |extra: &str| format!("GET / HTTP/1.1\r\nHost: web.demo:8080\r\n{extra}\r\n").into_bytes();
    let post = |extra: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: web.demo:8080\r\n{extra}\r\n{body}").into_bytes()
    };
    vec![
        (
            "content-length with transfer-encoding",
            post(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
            ),
            &[400],
        ),
        (
            "the same the other way round",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
            &[400],
        ),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), &[400]),
        ("a list of lengths", post("Content-Length: 5, 6\r\n", "hello!"), &[400]),
        ("a signed length", post("Content-Length: +5\r\n", "hello"), &[400]),
        ("a length in hexadecimal", post("Content-Length: 0x5\r\n", "hello"), &[400]),
        ("a length beyond 64 bits", post("Content-Length: 18446744073709551616\r\n", "hello"), &[400]),
        ("a blank before the colon", post("Content-Length : 5\r\n", "hello"), &[400]),
        ("an unknown coding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), &[400, 501]),
        ("a coding before chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), &[400, 501]),
        ("chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), &[400, 501]),
        (
            "chunked over HTTP/1.0",
            b"POST / HTTP/1.0\r\nHost: web.demo:8080\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            &[400],
        ),
        ("a folded header", get("X-Folded: one\r\n two\r\n"), &[400]),
        ("a header split at its name", post("Transfer-\r\nEncoding: chunked\r\n", "0\r\n\r\n"), &[400]),
        ("a NUL in a value", get("X-Nul: a\0b\r\n"), &[400]),
        ("a carriage return in a value", get("X-Cr: a\rb\r\n"), &[400]),
        ("a name with a blank", get("X Y: a\r\n"), &[400]),
        ("two hosts", get("Host: other.demo\r\n"), &[400]),
        ("no host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        (
            "a host with user information",
            b"GET / HTTP/1.1\r\nHost: u:p@web.demo:8080\r\n\r\n".to_vec(),
            &[400],
        ),
        ("a host with a slash", b"GET / HTTP/1.1\r\nHost: web.demo/x\r\n\r\n".to_vec(), &[400]),
        ("a port beyond 65535", b"GET / HTTP/1.1\r\nHost: web.demo:99999\r\n\r\n".to_vec(), &[400]),
        ("a bare line feed", b"GET / HTTP/1.1\nHost: web.demo:8080\n\n".to_vec(), &[400]),
        ("an unknown version", b"GET / HTTP/1.2\r\nHost: web.demo:8080\r\n\r\n".to_vec(), &[400, 505]),
        (
            "a scheme that is not ours",
            b"GET ftp://web.demo:8080/ HTTP/1.1\r\nHost: web.demo:8080\r\n\r\n".to_vec(),
            &[400],
        ),
        ("a fragment", b"GET /a#b HTTP/1.1\r\nHost: web.demo:8080\r\n\r\n".to_vec(), &[400]),
        (
            "a connection header that names framing",
            post("Connection: content-length\r\nContent-Length: 5\r\n", "hello"),
            &[400],
        ),
        ("a head of 500 KB", get(&format!("X-Big: {}\r\n", "a".repeat(500_000))), &[431]),
        ("a thousand headers", get(&(0..1000).map(|n| format!("X-{n}: v\r\n")).collect::<String>()), &[431]),
    ]
}

/// Chunk framing that is wrong: the head may have been forwarded, but no whole request may arrive.
fn broken_chunks() -> Vec<(&'static str, Vec<u8>)> {
    let chunked = |body: &str| {
        format!("POST / HTTP/1.1\r\nHost: web.demo:8080\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
            .into_bytes()
    };
    vec![
        ("a size in C's notation", chunked("0x5\r\nhello\r\n0\r\n\r\n")),
        ("a signed size", chunked("+5\r\nhello\r\n0\r\n\r\n")),
        ("an empty size", chunked("\r\nhello\r\n0\r\n\r\n")),
        ("a size beyond 64 bits", chunked("fffffffffffffffff\r\nhello\r\n0\r\n\r\n")),
        ("data longer than its size", chunked("3\r\nhello\r\n0\r\n\r\n")),
        ("a bare line feed after a size", chunked("5\nhello\r\n0\r\n\r\n")),
    ]
}

/// The status of the first response; 0 when the connection closed without one.
async fn first_status(addr: SocketAddr, bytes: &[u8]) -> u16 {
    let Ok(mut raw) = raw::Raw::connect(addr).await else { return 0 };
    let _ = raw.write(bytes).await;
    let Ok(head) = raw.head().await else { return 0 };
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// The two places where a client's bytes are parsed: its own proxy, and the server's for whoever has none.
fn sides(pair: &Pair) -> [(&'static str, SocketAddr); 2] {
    [("outbound", pair.client.pod.outbound()), ("inbound", pair.server.pod.port(PORT))]
}

#[test]
fn an_ambiguous_request_is_refused_and_nothing_of_it_is_forwarded() {
    run(async || {
        let pair = Pair::start().await;
        let mut wrong = vec![];
        for (side, addr) in sides(&pair) {
            for (what, bytes, statuses) in refused() {
                pair.origin.reset();
                let status = first_status(addr, &bytes).await;
                let seen = pair.origin.seen();
                if !statuses.contains(&status) || !seen.is_empty() {
                    wrong.push(format!(
                        "{what} ({side}): {status} instead of {statuses:?}, forwarded: {seen:?}"
                    ));
                }
                // Whatever it was, the next client is served.
                client::send(addr, client::to("http://web.demo:8080/next"))
                    .await
                    .unwrap_or_else(|error| panic!("after {what} ({side}): {error:#}"))
                    .is(200);
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn broken_chunks_never_make_a_second_request() {
    run(async || {
        let pair = Pair::start().await;
        for (side, addr) in sides(&pair) {
            for (what, bytes) in broken_chunks() {
                pair.origin.reset();
                let smuggled =
                    [&bytes[..], b"GET /smuggled HTTP/1.1\r\nHost: web.demo:8080\r\n\r\n"].concat();
                let answer = raw::exchange(addr, smuggled).await.unwrap_or_default();
                let text = String::from_utf8_lossy(&answer).into_owned();
                assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{what} ({side}): {text}");
                assert!(text.starts_with("HTTP/1.1 400"), "{what} ({side}): {text}");
                let seen = pair.origin.seen();
                assert!(seen.iter().all(|seen| seen.uri.path() != "/smuggled"), "{what} ({side}): {seen:?}");
            }
        }
    });
}

#[test]
fn what_is_unusual_but_clear_is_forwarded_as_it_means() {
    run(async || {
        let pair = Pair::start().await;
        for (side, addr) in sides(&pair) {
            for (what, bytes, path) in [
                (
                    "an absolute target wins over another host",
                    "GET http://web.demo:8080/target HTTP/1.1\r\nHost: other.demo:8080\r\n\r\n",
                    "/target",
                ),
                (
                    "a coding in capitals",
                    "POST /te HTTP/1.1\r\nHost: web.demo:8080\r\nTransfer-Encoding: cHuNkEd\r\n\r\n0\r\n\r\n",
                    "/te",
                ),
                (
                    "percent signs",
                    "GET /%2e%2e%2f//./x;y?%zz HTTP/1.1\r\nHost: web.demo:8080\r\n\r\n",
                    "/%2e%2e%2f//./x;y",
                ),
                (
                    "bytes above 127 in a value",
                    "GET /high HTTP/1.1\r\nHost: web.demo:8080\r\nX-High: \u{fc}\r\n\r\n",
                    "/high",
                ),
                ("a lower-case method", "get /method HTTP/1.1\r\nHost: web.demo:8080\r\n\r\n", "/method"),
                (
                    "a host in capitals with a dot",
                    "GET /host HTTP/1.1\r\nHost: WEB.demo.svc.cluster.local.:8080\r\n\r\n",
                    "/host",
                ),
            ] {
                pair.origin.reset();
                let status = first_status(addr, bytes.as_bytes()).await;
                assert_eq!(status, 200, "{what} ({side})");
                let seen = pair.origin.last();
                assert_eq!(seen.uri.path(), path, "{what} ({side})");
                if path == "/target" {
                    assert_eq!(seen.header("host"), "web.demo:8080", "{what} ({side})");
                }
            }
        }
    });
}

#[test]
fn hop_by_hop_headers_stay_on_their_hop() {
    run(async || {
        let pair = Pair::start().await;
        for (side, addr) in sides(&pair) {
            let bytes = "GET / HTTP/1.1\r\nHost: web.demo:8080\r\nConnection: close, x-secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-Kept: 2\r\n\r\n";
            assert_eq!(first_status(addr, bytes.as_bytes()).await, 200, "{side}");
            let seen = pair.origin.last();
            for name in ["x-secret", "keep-alive", "proxy-connection", "upgrade", "http2-settings"] {
                assert_eq!(seen.header(name), "", "{name} ({side})");
            }
            assert_eq!(seen.header("x-kept"), "2", "{side}");
        }
    });
}

/// Identity headers: only the server's proxy writes them, from the peer's certificate.
#[test]
fn no_spelling_of_the_identity_headers_gets_through() {
    run(async || {
        let pair = Pair::start().await;
        for (side, addr) in sides(&pair) {
            for name in [
                "l5d-client-id",
                "L5D-CLIENT-ID",
                "l5d_client_id",
                "L5d_Client-Id",
                "l5d-client_id",
                "l5d-orig-proto",
                "l5d-dst-canonical",
            ] {
                let bytes = format!(
                    "GET / HTTP/1.1\r\nHost: web.demo:8080\r\n{name}: evil\r\n{name}: evil\r\nConnection: l5d-client-id\r\n\r\n"
                );
                pair.origin.reset();
                let status = first_status(addr, bytes.as_bytes()).await;
                assert!(status == 200 || status == 400, "{name} ({side}): {status}");
                for seen in pair.origin.seen() {
                    assert!(
                        !format!("{:?}", seen.headers).contains("evil"),
                        "{name} ({side}): {:?}",
                        seen.headers
                    );
                    if side == "outbound" {
                        assert_eq!(seen.header("l5d-client-id"), pair.client.pod.identity(), "{name}");
                    }
                }
            }
        }
    });
}

/// Bytes that some server reads as a request must not reach it as anything else: not after empty lines, under an odd method or
/// version, nor when they come so late that the connection was taken for one whose server speaks first.
#[test]
fn no_disguise_carries_a_request_past_the_rules_of_http() {
    run(async || {
        let Pair { client, server, origin, control_plane, files } = Pair::start().await;
        drop(origin);
        let application =
            tcp::answers(server_pod().app(PORT), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        let forged = "Host: web.demo:8080\r\nl5d-client-id: evil\r\nConnection: close\r\n\r\n";
        let long = "A".repeat(40);
        for (line, pause) in [
            ("\r\n\r\n\r\nGET / HTTP/1.1", Duration::ZERO),
            (&format!("{long} / HTTP/1.1"), Duration::ZERO),
            ("PROPFIND / http/1.1", Duration::ZERO),
            (" GET / HTTP/1.1", Duration::ZERO),
            ("GET /", Duration::ZERO),
            ("GET / HTTP/1.1", Duration::from_millis(1_300)),
        ] {
            let outbound = client::connect(client.pod.outbound()).await.unwrap();
            let inbound = client::connect(server.pod.port(PORT)).await.unwrap();
            let tunnel = client::tunnel(client.pod.outbound(), "web.demo:8080").await.unwrap();
            // Longer than a silent client is waited for.
            tokio::time::sleep(pause).await;
            for (way, stream) in [("outbound", outbound), ("inbound", inbound), ("tunnel", tunnel)] {
                let mut raw = raw::Raw::over(stream);
                raw.write(format!("{line}\r\n{forged}")).await.unwrap();
                raw.to_end().await.unwrap();
                let got: Vec<_> = application
                    .received()
                    .iter()
                    .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                    .collect();
                assert!(!got.iter().any(|got| got.contains("evil")), "{line:?} ({way}) {pause:?}: {got:?}");
            }
        }
        drop((control_plane, files));
    });
}

/// An answer that two parsers could read differently does not reach the client, and its connection is not used again.
#[test]
fn an_ambiguous_response_is_502_and_poisons_nothing() {
    run(async || {
        for (what, answer, expected) in [
            ("two lengths", &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"[..], &[502_u16][..]),
            ("a status that is none", b"HTTP/1.1 99 No\r\nContent-Length: 0\r\n\r\n", &[502]),
            ("a folded header", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", &[502]),
            ("garbage", b"what?\r\n\r\n", &[502]),
            ("an upgrade nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", &[502]),
            ("more body than announced", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", &[200]),
        ] {
            let Pair { client, server, origin, control_plane, files } = Pair::start().await;
            drop(origin);
            let _origin = tcp::answers(server_pod().app(PORT), answer).await;
            let statuses = wait::until(what, SOON, async || {
                let mut statuses = vec![];
                for _ in 0..3 {
                    let reply = client::send(client.pod.outbound(), client::to("http://web.demo:8080/")).await.map_err(|e| format!("{e:#}"))?;
                    if reply.text().contains("poison") {
                        panic!("{what}: {}", reply.text());
                    }
                    statuses.push(reply.status.as_u16());
                }
                Ok::<_, String>(statuses)
            })
            .await;
            assert!(statuses.iter().all(|status| expected.contains(status)), "{what}: {statuses:?}");
            drop((server, control_plane, files));
        }
    });
}
