//! The catalogue of bad requests: each row is sent as raw bytes, to the inbound side as a stranger and through the pair as the
//! application, and what the origin got is compared. The ids are those of the project's catalogue.

use crate::testing::{Mesh, OK, Origin, exchange, run, status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

enum Want {
    /// Refused with this status, and nothing reached the origin.
    Refused(u16),
    /// Answered 200; the origin got all of the first texts and none of the second.
    Forwarded(&'static [&'static str], &'static [&'static str]),
}
use Want::{Forwarded, Refused};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn rows() -> Vec<(&'static str, String, Want)> {
    let post = |headers: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}");
    let get = |headers: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    let host = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut rows = vec![
        (
            "H-01 CL, TE",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            Refused(400),
        ),
        (
            "H-01 TE, CL",
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
            Refused(400),
        ),
        (
            "H-01 smuggled",
            format!("{}{REQUEST}", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
            Refused(400),
        ),
        ("H-03 twice the same", post("Content-Length: 2\r\nContent-Length: 2\r\n", "ab"), Refused(400)),
        ("H-06 blank before colon", post("Content-Length : 2\r\n", "ab"), Refused(400)),
        ("H-06 blank before colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), Refused(400)),
        ("H-08", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), Refused(501)),
        (
            "H-09 two lines",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            Refused(400),
        ),
        ("H-10", post("Transfer-Encoding:\tcHuNkEd\r\n", "2\r\nab\r\n0\r\n\r\n"), Forwarded(&["ab"], &[])),
        (
            "H-11",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            Refused(400),
        ),
        ("H-12", post("Transfer-\r\nEncoding: chunked\r\n", ""), Refused(400)),
        (
            "H-13",
            post("Transfer_Encoding: chunked\r\nContent-Length: 2\r\n", "ab"),
            Forwarded(&["transfer_encoding: chunked", "ab"], &[]),
        ),
        ("H-16 extension", chunked("2;a=b\r\nab\r\n0\r\n\r\n"), Forwarded(&["ab"], &["a=b"])),
        (
            "H-19 length",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab".into(),
            Forwarded(&["ab"], &[]),
        ),
        (
            "H-19 chunked",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n".into(),
            Forwarded(&["2\r\nab\r\n0\r\n\r\n"], &[]),
        ),
        ("H-20", "GET / HTTP/1.1\r\n\r\n".into(), Refused(400)),
        ("H-21 the same", get("Host: a\r\n"), Refused(400)),
        ("H-21 different", get("Host: b\r\n"), Refused(400)),
        (
            "H-23",
            "GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            Forwarded(&["GET /x HTTP/1.1\r\n", "host: b\r\n"], &["host: a"]),
        ),
        ("H-24", line("GET ftp://b/ HTTP/1.1"), Refused(400)),
        ("H-25", line("OPTIONS * HTTP/1.1"), Forwarded(&["OPTIONS * HTTP/1.1"], &[])),
        ("H-26", line("GET * HTTP/1.1"), Refused(400)),
        ("H-26", line("GET a:80 HTTP/1.1"), Refused(400)),
        ("H-27", line("CONNECT / HTTP/1.1"), Refused(400)),
        ("H-27 1.0", "CONNECT a:80 HTTP/1.0\r\nHost: a:80\r\n\r\n".into(), Refused(400)),
        ("H-28", line("GET /a#b HTTP/1.1"), Refused(400)),
        ("H-30 blank", line("GET /a b HTTP/1.1"), Refused(400)),
        ("H-30 control", line("GET /a\u{1}b HTTP/1.1"), Refused(400)),
        (
            "H-31",
            line("GET /%zz/%00/%2e%2e%2f//./;x HTTP/1.1"),
            Forwarded(&["GET /%zz/%00/%2e%2e%2f//./;x HTTP/1.1"], &[]),
        ),
        ("H-32 8 kB", line(&format!("GET /{} HTTP/1.1", "x".repeat(7_900))), Forwarded(&["GET /xxx"], &[])),
        ("H-32 65 kB", line(&format!("GET /{} HTTP/1.1", "x".repeat(65_000))), Refused(414)),
        ("H-32 500 kB", line(&format!("GET /{} HTTP/1.1", "x".repeat(500_000))), Refused(414)),
        ("H-33 99", get(&"x: y\r\n".repeat(98)), Forwarded(&["x: y"], &[])),
        ("H-33 101", get(&"x: y\r\n".repeat(101)), Refused(431)),
        ("H-34 60 kB", get(&format!("x: {}\r\n", "y".repeat(60_000))), Forwarded(&["x: yyy"], &[])),
        ("H-34 500 kB", get(&format!("x: {}\r\n", "y".repeat(500_000))), Refused(431)),
        ("H-34 name", get(&format!("{}: y\r\n", "x".repeat(65_536))), Refused(431)),
        ("H-34 method 100 kB", line(&format!("{} / HTTP/1.1", "A".repeat(100_000))), Refused(400)),
        ("H-34 method", line(&format!("{} / HTTP/1.1", "A".repeat(40))), Forwarded(&["AAA / HTTP/1.1"], &[])),
        ("H-35 DEL", get("x: a\u{7f}b\r\n"), Refused(400)),
        ("H-35 name beyond ASCII", get("x\u{e9}: a\r\n"), Refused(400)),
        ("H-36", get("x: a\u{ff}b\r\n"), Forwarded(&["x: a\u{ff}b\r\n"], &[])),
        ("H-35 NUL", get("x: a\0b\r\n"), Refused(400)),
        ("H-35 CR", get("x: a\rb\r\n"), Refused(400)),
        ("H-35 fold", get("x: a\r\n b\r\n"), Refused(400)),
        ("H-35 blank in name", get("x y: a\r\n"), Refused(400)),
        ("H-35 empty name", get(": a\r\n"), Refused(400)),
        ("H-35 no colon", get("x\r\n"), Refused(400)),
        ("H-37 CRLF thrice", format!("\r\n\r\n\r\n{REQUEST}"), Forwarded(&["GET / HTTP/1.1"], &[])),
        ("H-37 LF", "GET / HTTP/1.1\nHost: a\n\n".into(), Refused(400)),
        ("H-37 LF in one line", "GET / HTTP/1.1\r\nHost: a\n\r\n".into(), Refused(400)),
        ("H-37 CRLF first", format!("\r\n{REQUEST}"), Forwarded(&["GET / HTTP/1.1"], &[])),
        ("H-37 lower case", line("get / HTTP/1.1"), Forwarded(&["get / HTTP/1.1"], &[])),
        ("H-38 0.9", line("GET / HTTP/0.9"), Refused(400)),
        ("H-38 none", "GET /\r\n\r\n".into(), Refused(400)),
        ("H-38 small letters", line("GET / http/1.1"), Refused(400)),
        ("H-38 1.2", line("GET / HTTP/1.2"), Refused(400)),
        ("H-38 2.0", line("GET / HTTP/2.0"), Refused(400)),
        ("H-38 1.1x", line("GET / HTTP/1.1x"), Refused(400)),
        ("H-38 two blanks", line("GET  / HTTP/1.1"), Refused(400)),
        ("H-38 tab", line("GET\t/ HTTP/1.1"), Refused(400)),
        (
            "H-39",
            get("Connection: close, x-secret\r\nX-Secret: 1\r\n"),
            Forwarded(&["GET / "], &["x-secret"]),
        ),
        ("H-39 host", get("Connection: host\r\n"), Refused(400)),
        ("H-39 content-length", get("Connection: content-length\r\n"), Refused(400)),
        ("H-40", get("l5d-client-id: evil\r\nL5D-Client-ID: evil\r\n"), Forwarded(&["GET / "], &["evil"])),
        (
            "H-41",
            get("l5d_client_id: evil\r\nL5d_client-Id: evil\r\nX-Forwarded-Client-Cert: evil\r\n"),
            Forwarded(&["GET / "], &["evil"]),
        ),
        (
            "H-45 without key",
            get("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            Forwarded(&["upgrade: websocket"], &[]),
        ),
        (
            "H-45 with a body",
            post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n", "ab"),
            Forwarded(&["content-length: 2", "ab"], &["transfer-encoding"]),
        ),
        (
            "H-46",
            get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n"),
            Forwarded(&["GET / "], &["upgrade", "http2-settings"]),
        ),
        ("H-47 other", get("Expect: x\r\n"), Forwarded(&["expect: x"], &[])),
        ("H-47", post("Expect: 100-continue\r\nContent-Length: 2\r\n", "ab"), Forwarded(&["ab"], &[])),
    ];
    for value in ["5, 6", "+5", "-1", "0x5", "1_0", "5Z", "", "18446744073709551616", "5, 5", "0005"] {
        rows.push(("H-02, H-04", post(&format!("Content-Length: {value}\r\n"), "abcde"), Refused(400)));
    }
    for coding in ["xchunked", "identity", "\"chunked\"", "\u{b}chunked", "chunked, chunked", ",chunked"] {
        rows.push((
            "H-07, H-09",
            post(&format!("Transfer-Encoding: {coding}\r\n"), "0\r\n\r\n"),
            Refused(400),
        ));
    }
    for body in [
        "0x1\r\na\r\n",
        "+1\r\na\r\n",
        "-1\r\na\r\n",
        "0_2e\r\n",
        "\r\n",
        "fffffffffffffffff\r\n",
        " 1\r\na\r\n",
        "1\na\r\n",
        "1\ra\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1;a\nb\r\na\r\n",
        &format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(17_000)),
    ] {
        rows.push(("H-14, H-15, H-16", chunked(body), Refused(400)));
    }
    // Its head has been sent on by the time a body turns out to have too much behind it.
    for trailers in [format!("x: {}\r\n", "y".repeat(65_536)), "x: y\r\n".repeat(1_000)] {
        rows.push(("H-17", chunked(&format!("2\r\nab\r\n0\r\n{trailers}\r\n")), Refused(400)));
    }
    for name in ["", "u:p@a", "a/b", "a:99999", "a b", "[::1", "a%2fb", "a:b", "a,b"] {
        rows.push(("H-22", host(name), Refused(400)));
    }
    rows
}

/// Sends every row to `position` of a fresh mesh each, and collects what is not as it should be.
async fn check(position: impl Fn(&Mesh) -> std::net::SocketAddr) {
    let origin = Origin::start(OK).await;
    let mesh = Mesh::start(origin.addr).await;
    let mut wrong = Vec::new();
    for (id, bytes, want) in rows() {
        origin.clear();
        let response = match tokio::time::timeout(
            std::time::Duration::from_secs(4),
            exchange(position(&mesh), bytes.as_bytes()),
        )
        .await
        {
            Ok(response) => response,
            Err(_) => "no answer".to_owned(),
        };
        let (code, got) = (status(&response), origin.text().to_ascii_lowercase());
        let fine = match &want {
            // A body that breaks off after its head was sent reaches the origin without its end, never as a whole request.
            Refused(want) => {
                let begins = ["H-14", "H-17"].iter().any(|row| id.starts_with(row));
                code == *want && (got.is_empty() || (begins && !got.ends_with("0\r\n\r\n")))
            }
            Forwarded(all, none) => {
                { code == 200 || (response.starts_with("HTTP/1.1 100") && response.contains("HTTP/1.1 200")) }
                    .then_some(())
                    .is_some_and(|()| {
                        all.iter().all(|text| got.contains(&text.to_ascii_lowercase()))
                            && !none.iter().any(|text| got.contains(text))
                    })
            }
        };
        if !fine {
            let shown = |text: &str| text.chars().take(160).collect::<String>();
            wrong.push(format!(
                "{id}: {:?}\n  → {code} {:?}\n  origin: {:?}",
                shown(&bytes),
                shown(&response),
                shown(&got)
            ));
        }
        let next = exchange(position(&mesh), REQUEST.as_bytes()).await;
        assert_eq!(status(&next), 200, "{id}: the next request on a new connection");
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn as_a_stranger_to_the_inbound_side() {
    run(check(|mesh| mesh.direct));
}

#[test]
fn as_the_application_through_the_pair() {
    run(check(|mesh| mesh.app));
}

/// Row H-05: a length that nobody can hold is only a number; what comes of the body passes as it comes.
#[test]
fn an_immense_length_reserves_nothing() {
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            let mut bytes = [0; 4_096];
            while !got.bytes().ends_with(b"ab") {
                match socket.read(&mut bytes).await.unwrap() {
                    0 => return,
                    n => got.push(&bytes[..n]),
                }
            }
            socket.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\nab", i64::MAX);
        for addr in [mesh.direct, mesh.app] {
            assert_eq!(status(&exchange(addr, post.as_bytes()).await), 200);
        }
    });
}
