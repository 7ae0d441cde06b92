//! Decides which protocol a connection speaks from its first bytes. Reads, never writes; TLS termination is the caller's work.
//!
//! The verdict depends on the bytes alone, never on how TCP cut them: as long as what was seen can still become something
//! else, more is read.

use crate::io::{Prefixed, Stream};
use bytes::BytesMut;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{self, Instant},
};

/// A client that has sent nothing by then waits for the server to speak first.
pub const SILENCE: Duration = Duration::from_secs(1);
/// Enough for a first request or a ClientHello in one read.
const FIRST_READ: usize = 4 * 1_024;
/// A line this long that still looks like a request line is one; the HTTP server knows how to refuse it.
const MAX_UNDECIDED: usize = 16 * 1_024;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A TLS record of the handshake.
    Tls,
    Http1,
    Http2,
    Opaque,
    NeedMore,
}

/// How a detection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    Tls,
    Http1,
    Http2,
    Opaque,
    /// The client sent nothing in time.
    Silent,
    /// The client began what may become HTTP and stopped.
    Stalled,
    /// The client closed before it sent a byte.
    Closed,
}

/// What `seen`, the beginning of a connection, is the beginning of.
pub fn classify(seen: &[u8]) -> Verdict {
    let Some(&first) = seen.first() else { return Verdict::NeedMore };
    if first == 0x16 {
        return match seen.get(1) {
            None => Verdict::NeedMore,
            Some(3) => Verdict::Tls,
            Some(_) => Verdict::Opaque,
        };
    }
    if seen.starts_with(PREFACE) {
        return Verdict::Http2;
    }
    if PREFACE.starts_with(seen) {
        return Verdict::NeedMore;
    }
    request_line(seen)
}

/// HTTP/1 begins with `method SP target SP HTTP/`. What any server may take for that is HTTP/1, however odd: the HTTP server
/// refuses it, whereas bytes that pass as opaque pass all rules of HTTP, too. So any number of empty lines and all blanks of
/// RFC 9112 §3 are allowed for, a method of any length, and a version in small letters.
fn request_line(seen: &[u8]) -> Verdict {
    let undecided = if seen.len() >= MAX_UNDECIDED { Verdict::Http1 } else { Verdict::NeedMore };
    let Some(begin) = seen.iter().position(|&b| b != b'\n' && !is_blank(b)) else { return undecided };
    let seen = &seen[begin..];
    let Some(method) = seen.iter().position(|&b| !is_token(b)) else { return undecided };
    if method == 0 || !is_blank(seen[method]) {
        return Verdict::Opaque;
    }
    let (line, whole) = match memchr::memchr(b'\n', seen) {
        Some(end) => (&seen[..end], true),
        None => (seen, false),
    };
    // HTTP/0.9 has no version, and no method but GET.
    if has_version(line) || &seen[..method] == b"GET" {
        return Verdict::Http1;
    }
    // Other line protocols have commands with arguments, too, but not that version.
    if whole { Verdict::Opaque } else { undecided }
}

fn has_version(line: &[u8]) -> bool {
    line.windows(6).any(|w| is_blank(w[0]) && w[1..].eq_ignore_ascii_case(b"HTTP/"))
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// The blanks of RFC 9112 §3, and what else Python's servers split a request line at.
fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | 0x0b | 0x0c | b'\r' | 0x1c..=0x1f | 0x85 | 0xa0)
}

/// Reads until the protocol is known, and gives the bytes back as the stream's prefix. A silent client is waited for `silence`
/// long, one that has begun to speak until `deadline` is over. Not cancel-safe.
pub async fn run(stream: Stream, silence: Duration, deadline: Duration) -> io::Result<(Detected, Stream)> {
    let (prefix, mut transport) = stream.into_parts();
    let mut seen = BytesMut::from(prefix);
    let start = Instant::now();
    let detected = loop {
        match classify(&seen) {
            Verdict::Tls => break Detected::Tls,
            Verdict::Http1 => break Detected::Http1,
            Verdict::Http2 => break Detected::Http2,
            Verdict::Opaque => break Detected::Opaque,
            Verdict::NeedMore => {}
        }
        let (limit, late) = match seen.is_empty() {
            true => (silence.min(deadline), Detected::Silent),
            false => (deadline, Detected::Stalled),
        };
        match time::timeout_at(start + limit, read_more(&mut transport, &mut seen)).await {
            Err(_) => break late,
            Ok(Ok(0)) if seen.is_empty() => break Detected::Closed,
            Ok(Ok(0)) => break Detected::Opaque,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
    };
    Ok((detected, Prefixed::new(seen.freeze(), transport)))
}

/// After `Silent`, once there is a connection to the server: who speaks first? `Silent` again if it is the server; else the client was
/// only late, and what it speaks is found out as if it had come in time: a pause is no way past HTTP's rules. Not cancel-safe.
pub async fn late(
    mut client: Stream,
    mut server: Stream,
    deadline: Duration,
) -> io::Result<(Detected, Stream, Stream)> {
    let server_first = tokio::select! {
        biased;
        said = client.ahead() => said.map(|()| false)?,
        said = server.ahead() => said.map(|()| true)?,
    };
    if server_first && is_http2_server(server.prefix()) {
        client.ahead().await?;
    }
    if client.prefix().is_empty() {
        return Ok((Detected::Silent, client, server));
    }
    let (detected, client) = run(client, deadline, deadline).await?;
    Ok((detected, client, server))
}

/// A server of HTTP/2 says its settings before its client has said a word (RFC 9113 §3.4): a frame of type 4 on stream 0.
fn is_http2_server(said: &[u8]) -> bool {
    matches!(said, [0, _, _, 4, 0, 0, 0, 0, 0, ..])
}

async fn read_more(io: &mut (impl AsyncRead + Unpin), seen: &mut BytesMut) -> io::Result<usize> {
    if seen.capacity() - seen.len() < FIRST_READ / 4 {
        seen.reserve(FIRST_READ);
    }
    io.read_buf(seen).await
}

/// The server name that a ClientHello asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Sni {
    Name(Box<str>),
    /// None, or one that is no host name.
    Absent,
    NeedMore,
    /// Not a ClientHello.
    Garbage,
}

/// `seen` is the beginning of a connection of which `classify` says `Tls`.
pub fn sni(seen: &[u8]) -> Sni {
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = seen;
    while !rest.is_empty() {
        match acceptor.read_tls(&mut rest) {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return Sni::Garbage,
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return accepted
                    .client_hello()
                    .server_name()
                    .map_or(Sni::Absent, |name| Sni::Name(name.into()));
            }
            Ok(None) => {}
            Err(_) => return Sni::Garbage,
        }
    }
    Sni::NeedMore
}

/// Reads the ClientHello and gives its bytes back. `NeedMore`: it was not whole by the deadline, or is longer than any is.
/// Not cancel-safe.
pub async fn read_sni(stream: Stream, deadline: Duration) -> io::Result<(Sni, Stream)> {
    /// A ClientHello fits in one handshake message of 64 KiB; real ones have 2.
    const MAX_HELLO: usize = 64 * 1_024;
    let (prefix, mut transport) = stream.into_parts();
    let mut seen = BytesMut::from(prefix);
    let end = Instant::now() + deadline;
    let said = loop {
        let said = sni(&seen);
        if said != Sni::NeedMore || seen.len() > MAX_HELLO {
            break said;
        }
        match time::timeout_at(end, read_more(&mut transport, &mut seen)).await {
            Err(_) => break Sni::NeedMore,
            Ok(Ok(0)) => break Sni::Garbage,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
    };
    Ok((said, Prefixed::new(seen.freeze(), transport)))
}

#[cfg(test)]
mod tests;
