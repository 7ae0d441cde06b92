//! Floods of HTTP/2 frames, written by hand (reliability rows F-17 to F-24): each ends by the proxy's own limit, reaches the
//! application with no more than that, and the next client is served as if nothing had been.

use crate::testing::*;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Reset because the limit of streams is reached: safe to try again.
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET / HTTP/2`, authority `web`: three names of the static table and one literal.
fn get() -> Vec<u8> {
    [&[0x82, 0x84, 0x86, 0x41, 3][..], b"web"].concat()
}

/// A literal header that stays out of the table.
fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
}

/// An HTTP/2 connection of raw frames.
struct Raw {
    socket: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Raw {
    async fn connect(addr: SocketAddr) -> Raw {
        let mut socket = TcpStream::connect(addr).await.unwrap();
        let settings = frame(SETTINGS, 0, 0, &[]);
        socket.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings].concat()).await.unwrap();
        Raw { socket, read: Vec::new() }
    }

    /// `false` when the proxy has closed.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        time::timeout(PATIENCE, self.socket.write_all(bytes)).await.is_ok_and(|sent| sent.is_ok())
    }

    /// `None` at the end of the connection.
    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((head, rest)) = self.read.split_at_checked(9) {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if rest.len() >= length {
                    let found = Frame {
                        kind: head[3],
                        stream: u32::from_be_bytes(head[5..9].try_into().unwrap()),
                        payload: rest[..length].to_vec(),
                    };
                    self.read.drain(..9 + length);
                    return Some(found);
                }
            }
            let mut piece = [0; 16_384];
            match time::timeout(PATIENCE, self.socket.read(&mut piece)).await.expect("frames, or an end") {
                Ok(0) | Err(_) => return None,
                Ok(n) => self.read.extend_from_slice(&piece[..n]),
            }
        }
    }

    /// Sends the same again and again until the proxy has enough of it; says how often that was, and why it said no more.
    async fn flood(mut self, most: usize, bytes: impl Fn(usize) -> Vec<u8>) -> (usize, Option<u32>) {
        let mut sent = 0;
        while sent < most && self.send(&bytes(sent)).await {
            sent += 1;
        }
        let mut reason = None;
        while let Some(frame) = self.frame().await {
            if frame.kind == GOAWAY {
                reason = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
        (sent, reason)
    }
}

/// In both positions where a stranger's frames arrive; afterwards the next client is served at once.
async fn each(origin: SocketAddr, flood: impl AsyncFn(Raw, &'static str)) {
    let mesh = Mesh::start(origin).await;
    for (addr, position) in [(mesh.app, "outbound"), (mesh.direct, "inbound")] {
        flood(Raw::connect(addr).await, position).await;
        let next = exchange(addr, b"GET /next HTTP/1.1\r\nHost: web\r\n\r\n");
        let next = time::timeout(Duration::from_secs(2), next).await.expect("the next client waits");
        assert_eq!(status(&next), 200, "{position}");
    }
}

/// F-19: CVE-2023-44487.
#[test]
fn streams_opened_and_reset_at_once_end_the_connection() {
    run(async {
        let origin = Origin::start(OK).await;
        each(origin.addr, async |raw, position| {
            origin.clear();
            let (sent, reason) = raw
                .flood(20_000, |n| {
                    let stream = 2 * n as u32 + 1;
                    let open = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get());
                    [open, frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
                })
                .await;
            assert!(sent < 20_000, "{position}: the connection stays");
            assert!(matches!(reason, None | Some(ENHANCE_YOUR_CALM)), "{position}: {reason:?}");
            let reached = origin.text().matches("GET / ").count();
            assert!(reached <= 1_000, "{position}: {reached} requests reached the application");
        })
        .await;
    });
}

/// F-21.
#[test]
fn a_head_without_an_end_ends_the_connection() {
    run(async {
        let origin = Origin::start(OK).await;
        for (what, piece, most) in [
            ("of some length", literal("x-filler", &"x".repeat(100)).repeat(9), 5_000),
            ("of none", Vec::new(), 100_000),
        ] {
            each(origin.addr, async |mut raw, position| {
                raw.send(&frame(HEADERS, END_STREAM, 1, &get())).await;
                let (sent, _) = raw.flood(most, |_| frame(CONTINUATION, 0, 1, &piece)).await;
                assert!(sent < most, "{what}, {position}: the connection stays");
            })
            .await;
        }
        assert!(!origin.text().contains("x-filler"));
    });
}

/// F-17: an entry of 4,000 bytes, and references to it of one byte each.
#[test]
fn a_head_that_unpacks_to_megabytes_is_refused() {
    run(async {
        let origin = Origin::start(OK).await;
        each(origin.addr, async |mut raw, position| {
            // Literal with indexing: name of one byte, value of 4,000 (a seven-bit prefix and two more bytes).
            let entry = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4_000]].concat();
            // It is the newest entry, the first after the 61 of the static table.
            let bomb = [get(), entry, vec![0x80 | 62; 5_000]].concat();
            raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await;
            let refused = loop {
                match raw.frame().await {
                    None => break true,
                    Some(Frame { kind: GOAWAY | RST_STREAM, .. }) => break true,
                    // 431, literally or by the table's index for `:status`.
                    Some(Frame { kind: HEADERS, payload, .. }) => {
                        break payload.windows(3).any(|w| w == b"431") || payload.first() == Some(&0x48);
                    }
                    Some(_) => {}
                }
            };
            assert!(refused, "{position}");
        })
        .await;
        assert!(!origin.text().contains("yyyy"), "none of it reached the application");
    });
}

/// F-21 and RUSTSEC-2026-0258.
#[test]
fn data_frames_without_data_end_the_connection() {
    run(async {
        let origin = Origin::start(OK).await;
        each(origin.addr, async |mut raw, position| {
            let post = [&[0x83, 0x84, 0x86, 0x41, 3][..], b"web"].concat();
            raw.send(&frame(HEADERS, END_HEADERS, 1, &post)).await;
            let (sent, _) = raw.flood(200_000, |_| frame(DATA, 0, 1, &[])).await;
            assert!(sent < 200_000, "{position}: the connection stays");
        })
        .await;
    });
}

/// F-22: frames that have to be answered, from a client that does not read the answers. Nothing limits their number, so what
/// must be bounded is what is kept of them: at some point the proxy stops reading.
#[test]
fn pings_and_settings_that_nobody_reads_the_answers_of_are_not_collected() {
    run(async {
        let origin = Origin::start(OK).await;
        for flood in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
            let flood = flood.repeat(1_000);
            each(origin.addr, async |mut raw, position| {
                let mut sent = 0;
                // Without an answer being read, 100 MB are more than all buffers on the way.
                while sent < 100_000_000 {
                    let write = time::timeout(Duration::from_millis(500), raw.socket.write_all(&flood));
                    match write.await {
                        Ok(Ok(())) => sent += flood.len(),
                        Ok(Err(_)) | Err(_) => break,
                    }
                }
                assert!(sent < 100_000_000, "{position}: everything was taken");
            })
            .await;
        }
    });
}

/// F-24.
#[test]
fn more_streams_than_allowed_are_refused_and_can_be_tried_again() {
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            while read_request(&mut socket, &got).await {
                if got.bytes().windows(9).any(|w| w == b"GET /next") {
                    socket.write_all(OK.as_bytes()).await.unwrap();
                }
            }
        })
        .await;
        each(origin.addr, async |mut raw, position| {
            let opened = 300;
            for n in 0..opened {
                raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &get())).await;
            }
            let mut refused = 0;
            while refused < opened - 200 {
                let Some(Frame { kind, stream, payload, .. }) = raw.frame().await else {
                    panic!("{position}: the connection ended after {refused} refusals")
                };
                if kind == RST_STREAM {
                    assert_eq!(payload, REFUSED_STREAM.to_be_bytes(), "{position}: stream {stream}");
                    refused += 1;
                }
            }
        })
        .await;
    });
}

/// F-23: a client that asks for much and reads nothing makes the proxy hold its buffers' worth, and no more.
#[test]
fn a_client_that_does_not_read_is_not_read_for() {
    const STREAMS: u32 = 50;
    const ANSWER: usize = 5_000_000;
    run(async {
        let origin = Origin::with(|mut socket, got| async move {
            while read_request(&mut socket, &got).await {
                if got.bytes().windows(9).any(|w| w == b"GET /next") {
                    socket.write_all(OK.as_bytes()).await.unwrap();
                    continue;
                }
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {ANSWER}\r\n\r\n");
                socket.write_all(head.as_bytes()).await.unwrap();
                let piece = [b'x'; 10_000];
                // What was taken is written down in place of the request.
                while socket.write_all(&piece).await.is_ok() {
                    got.push(&piece);
                }
                return;
            }
        })
        .await;
        each(origin.addr, async |mut raw, position| {
            origin.clear();
            for n in 0..STREAMS {
                raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &get())).await;
            }
            // Until nothing moves any more.
            let taken = || origin.got.borrow().iter().map(Vec::len).sum::<usize>();
            let mut before = 0;
            loop {
                time::sleep(Duration::from_millis(300)).await;
                let now = taken();
                if now == before && now > 0 {
                    break;
                }
                before = now;
            }
            // Kernel buffers of as many loopback connections included: a few megabytes each at most.
            let all = STREAMS as usize * ANSWER;
            assert!(taken() < all / 2, "{position}: {} of {all} bytes were taken", taken());
        })
        .await;
    });
}

/// Windows that a client opens to the utmost and then overruns are an error of its own.
#[test]
fn a_window_beyond_its_limit_ends_the_connection() {
    run(async {
        let origin = Origin::start(OK).await;
        each(origin.addr, async |raw, position| {
            let grow = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
            let (_, reason) = raw.flood(2, |_| grow.clone()).await;
            assert_eq!(reason, Some(3), "{position}: FLOW_CONTROL_ERROR");
        })
        .await;
    });
}
