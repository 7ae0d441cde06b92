use super::*;
use proptest::prelude::*;
use tokio::io::AsyncReadExt;

/// What hyper would get of `wire`, cut into pieces of `piece` bytes.
async fn through(wire: &[u8], piece: usize) -> io::Result<Vec<u8>> {
    let (mut client, server) = tokio::io::duplex(piece);
    let mut gate = Gate::new(server, Switch::default());
    let sent = async {
        // The gate stops reading when it has refused; then there is nobody to write to.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client, wire).await;
        drop(client);
    };
    let got = async {
        let mut got = Vec::new();
        gate.read_to_end(&mut got).await?;
        drop(gate);
        Ok(got)
    };
    tokio::join!(sent, got).1
}

async fn check(wire: &str, want: &str) {
    for piece in [1, 2, 7, 100_000] {
        let got = through(wire.as_bytes(), piece).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&got), want, "in pieces of {piece}");
    }
}

fn refused(status: u16) -> String {
    format!("REFUSED /{status} HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n")
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn passes_what_is_in_order() {
    for wire in [
        GET.to_owned(),
        GET.repeat(5),
        format!("\r\n{GET}"),
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab\ncd{GET}"),
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\na\nb\r\n0\r\nx: y\r\n\r\n{GET}"
        ),
    ] {
        check(&wire, &wire).await;
    }
}

#[tokio::test]
async fn replaces_what_is_not_and_what_comes_after() {
    for (bad, status) in [
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n x\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 01\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("REFUSED /x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ] {
        check(&format!("{GET}{bad}{GET}"), &format!("{GET}{}", refused(status))).await;
    }
    let long = "x".repeat(70_000);
    check(&format!("GET /{long} HTTP/1.1\r\n\r\n"), &refused(414)).await;
    check(&format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n"), &refused(431)).await;
}

#[tokio::test]
async fn a_body_that_breaks_its_framing_ends_before_its_end() {
    for chunks in
        ["x\r\n", "1\na\r\n", "1\r\nab\r\n", "1\r\na\n", "\r\n", "-1\r\n", "ffffffffffffffff\r\n", "0\r\n\n"]
    {
        let wire = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        for piece in [1, 100_000] {
            let got = through(wire.as_bytes(), piece).await.unwrap();
            assert!(got.len() < wire.len() && wire.as_bytes().starts_with(&got), "{chunks:?}");
        }
    }
}

#[tokio::test]
async fn after_a_switch_anything_passes() {
    let (mut client, server) = tokio::io::duplex(64);
    let switch = Switch::default();
    let mut gate = Gate::new(server, switch.clone());
    switch.set();
    tokio::io::AsyncWriteExt::write_all(&mut client, b"\n\n\0").await.unwrap();
    drop(client);
    let mut got = Vec::new();
    gate.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"\n\n\0");
}

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_segmentation(
        wire in "(GET|POST) /[a#]? HTTP/1.1\r?\n(Host: a\r\n)?(Content-Length: [0-3]\r\n)?(Transfer-Encoding: chunked\r\n)?\r\n(1\r\na\r\n)?(0\r\n\r\n)?",
        piece in 1usize..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let whole = runtime.block_on(through(wire.as_bytes(), 100_000)).unwrap();
        let pieces = runtime.block_on(through(wire.as_bytes(), piece)).unwrap();
        // Of a body that breaks off, more or less may have passed by then.
        prop_assert!(whole == pieces || (wire.as_bytes().starts_with(&whole) && wire.as_bytes().starts_with(&pieces) && !whole.ends_with(b"0\r\n\r\n")));
    }
}
