use super::*;
use proptest::prelude::*;

fn check(bytes: &[u8], want: Verdict) {
    assert_eq!(classify(bytes), want, "{:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn knows_protocols_by_their_first_bytes() {
    use Verdict::*;
    for (bytes, want) in [
        (b"GET / HTTP/1.1\r\n".as_slice(), Http1),
        (b"\r\nGET / HTTP/1.1\r\n", Http1),
        (b"G", NeedMore),
        (b"GET", NeedMore),
        (b"GET ", Http1),
        (b"GET /", Http1),
        (b"get / HTTP/1.1\r\n", Http1),
        (b"PROPFIND /x HTTP/1.1\r\n", Http1),
        (b"PROPFIND /x HTT", NeedMore),
        (b"POST /x\r\n", Opaque),
        (b"GET http://a/ HTTP/1.1\r\n", Http1),
        (b"GET * HTTP/1.1\r\n", Http1),
        (b"GET /\r\n", Http1),
        (b"CONNECT a:80 HTTP/1.1\r\n", Http1),
        (b"PRI * HTTP/2.0\r\n\r\n", Http2),
        (b"PRI * HTTP/2.0\r\n\r\nXX", Http2),
        (b"PRI * HT", NeedMore),
        (b"\x16", NeedMore),
        (b"\x16\x03\x01", Tls),
        (b"\x16\x04", Opaque),
        (b"SSH-2.0-OpenSSH_9\r\n", Opaque),
        (b"PING\r\n", Opaque),
        (b"SET a b\r\n", Opaque),
        (b"get key\r\n", Opaque),
        (b"EHLO host\r\n", Opaque),
        (b"*1\r\n$4\r\nPING\r\n", Opaque),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Opaque),
        (b"\x00", Opaque),
        (b"\xff", Opaque),
    ] {
        check(bytes, want);
    }
}

/// Whatever some server may read as a request is for the HTTP server to refuse: as opaque bytes it would pass unseen.
#[test]
fn a_request_in_disguise_is_one() {
    use Verdict::*;
    for line in [
        "\r\n\r\nPOST /admin HTTP/1.1",
        "\n\n\n\n\r\nPOST /admin HTTP/1.1",
        " POST /admin HTTP/1.1",
        "\r\n\t POST\t/admin\tHTTP/1.1",
        "POST\x0b/admin\x0cHTTP/1.1",
        "POST /\x01 HTTP/1.1",
        "POST /admin http/1.1",
        "PROPFIND admin HtTp/1.1",
        "GET admin",
        "GET http://web/admin",
        "\r\n GET /admin",
        &format!("{} /admin HTTP/1.1", "A".repeat(33)),
        &format!("{} /admin HTTP/1.1", "A".repeat(MAX_UNDECIDED)),
        &format!("{}POST /admin HTTP/1.1", "\r\n".repeat(MAX_UNDECIDED)),
        &format!("POST /{} HTTP/1.1", "a".repeat(MAX_UNDECIDED)),
    ] {
        let bytes = format!("{line}\r\n");
        check(bytes.as_bytes(), Http1);
        for end in 0..bytes.len().min(200) {
            let early = classify(&bytes.as_bytes()[..end]);
            assert!(matches!(early, Http1 | NeedMore), "{early:?} after {:?}", &bytes[..end]);
        }
    }
}

#[test]
fn a_request_line_without_end_becomes_the_http_servers_problem() {
    let mut line = b"POST x".to_vec();
    line.resize(MAX_UNDECIDED, b'a');
    check(&line, Verdict::Http1);
}

proptest! {
    /// Row P-02: once decided, more bytes change nothing; and nothing is decided too early.
    #[test]
    fn segmentation_does_not_matter(
        start in prop_oneof![
            Just("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
            Just("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
            Just("OPTIONS * HTTP/1.1\r\n\r\n".to_owned()),
            "\\PC{0,40}",
            "[ \\r\\n]{0,5}[A-Z]{1,6}[ \\x0b\\r\\n]{1,2}[a-z/*:\\x01]{0,9}[ \\r\\n]((HTTP|http)/1.1)?\\r\\n",
        ]
    ) {
        let bytes = start.as_bytes();
        let mut decided = Verdict::NeedMore;
        for end in 0..=bytes.len() {
            let now = classify(&bytes[..end]);
            if decided != Verdict::NeedMore {
                prop_assert_eq!(now, decided, "changed its mind at {} of {:?}", end, start);
            }
            decided = now;
        }
    }

    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = classify(&bytes);
        let _ = sni(&bytes);
    }
}

#[tokio::test]
async fn a_silent_client_is_not_waited_for_until_the_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let stream = Stream::from(crate::io::Transport::Tcp(socket));
    let (silence, deadline) = (Duration::from_millis(20), Duration::from_secs(600));
    let (detected, _stream) = run(stream, silence, deadline).await.unwrap();
    assert_eq!(detected, Detected::Silent);
    drop(client);
}

/// The two ends of a connection.
async fn connected() -> (tokio::net::TcpStream, Stream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    (ours, crate::io::Transport::Tcp(socket).into())
}

#[tokio::test]
async fn after_silence_it_counts_who_speaks_first() {
    use tokio::io::AsyncWriteExt;
    let settings: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    for (server_says, client_says, want) in [
        (&b"220 hello\r\n"[..], &b""[..], Detected::Silent),
        (b"", b"GET / HTTP/1.1\r\n", Detected::Http1),
        (b"", PREFACE, Detected::Http2),
        (b"", b"\x16\x03\x01", Detected::Tls),
        (b"", b"PING\r\n", Detected::Opaque),
        (settings, PREFACE, Detected::Http2),
        (settings, b"GET / HTTP/1.1\r\n", Detected::Http1),
    ] {
        let ((mut client, client_side), (mut server, server_side)) = (connected().await, connected().await);
        let late = late(client_side, server_side, Duration::from_secs(60));
        let speak = async {
            server.write_all(server_says).await.unwrap();
            // What the server said is there before its client's word.
            tokio::task::yield_now().await;
            client.write_all(client_says).await.unwrap();
        };
        let (late, ()) = tokio::join!(late, speak);
        let (detected, client_side, server_side) = late.unwrap();
        assert_eq!(detected, want, "{:?}", String::from_utf8_lossy(client_says));
        // Nothing is lost of what either said.
        assert_eq!(client_side.prefix(), client_says);
        assert!(server_said_nothing_else(server_side.prefix(), server_says));
    }
    // A client that only ends its side may still be told something.
    let ((mut client, client_side), (_server, server_side)) = (connected().await, connected().await);
    client.shutdown().await.unwrap();
    let (detected, ..) = late(client_side, server_side, Duration::from_secs(60)).await.unwrap();
    assert_eq!(detected, Detected::Silent);
}

fn server_said_nothing_else(ahead: &[u8], said: &[u8]) -> bool {
    ahead.is_empty() || ahead == said
}

/// A ClientHello for this name.
fn hello(name: &'static str) -> Vec<u8> {
    let config =
        rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
    let mut client = rustls::ClientConnection::new(config.into(), name.try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// Catalogue S-07: what is no host name is no name, and so not ours.
#[test]
fn an_odd_server_name_is_none() {
    let name = b"web.demo.example";
    let plain = hello("web.demo.example");
    let at = plain.windows(name.len()).position(|window| window == name).unwrap();
    for odd in [
        b"web.demo.exampl\xff",
        b"web.demo.exampl\0",
        b"web demo.example",
        b"web..emo.example",
        b"*.b.demo.example",
    ] {
        let mut odd_hello = plain.clone();
        odd_hello[at..at + name.len()].copy_from_slice(odd);
        let said = sni(&odd_hello);
        assert!(matches!(said, Sni::Absent | Sni::Garbage), "{}: {said:?}", odd.escape_ascii());
    }
    assert_eq!(sni(&hello("127.0.0.1")), Sni::Absent);
}

#[test]
fn reads_the_server_name_whole_or_in_pieces() {
    let hello = hello("web.demo.example");
    assert_eq!(sni(&hello), Sni::Name("web.demo.example".into()));
    for end in 2..hello.len() {
        assert_eq!(sni(&hello[..end]), Sni::NeedMore, "{end}");
    }
}
