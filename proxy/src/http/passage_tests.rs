//! What comes besides head and body: trailers after it, interim responses before it. What HTTP/1 cannot carry is left out,
//! never the message it belongs to.

use crate::testing::*;
use tokio::io::AsyncWriteExt;

/// Row H-17, O-09. HTTP/1 carries trailers that were announced in `Trailer`, and to clients only those who said `TE: trailers`;
/// HTTP/2 carries them all (`h2_tests`).
#[test]
fn announced_trailers_pass_over_http1_both_ways() {
    run(async {
        let origin = Origin::start(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-answer\r\n\r\n2\r\nok\r\n0\r\n\
             x-answer: yes\r\nx-unannounced: lost\r\n\r\n",
        )
        .await;
        let mesh = Mesh::start(origin.addr).await;
        let upload = b"POST / HTTP/1.1\r\nHost: web\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\nabc\r\n0\r\nX-Sum: 6\r\nX-Unannounced: lost\r\nHost: evil\r\n\r\n";
        for position in [mesh.app, mesh.direct] {
            origin.clear();
            let (response, got) = (exchange(position, upload).await, origin.text());
            assert!(got.ends_with("abc\r\n0\r\nx-sum: 6\r\n\r\n"), "{got}");
            assert!(response.ends_with("ok\r\n0\r\nx-answer: yes\r\n\r\n"), "{response}");
        }
    });
}

/// Row O-05: hyper tells of interim responses but cannot send them, so they end here; the final one passes, and the
/// connection is used again.
#[test]
fn interim_responses_are_left_out() {
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            while read_request(&mut socket, &got).await {
                for _ in 0..50 {
                    let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";
                    socket.write_all(hints).await.unwrap();
                }
                socket.write_all(OK.as_bytes()).await.unwrap();
            }
        })
        .await;
        let mesh = Mesh::start(origin.addr).await;
        for position in [mesh.app, mesh.direct] {
            for _ in 0..2 {
                let response = exchange(position, b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").await;
                assert!(
                    response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("ok"),
                    "{response}"
                );
            }
        }
        assert_eq!(origin.got.borrow().len(), 1, "connections to the application");
    });
}
