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

/// HTTP/1 begins with `method SP target SP HTTP/`, perhaps after an empty line (RFC 9112 §2.2).
fn request_line(seen: &[u8]) -> Verdict {
    let begins = seen.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    if begins > 2 {
        return Verdict::Opaque;
    }
    let seen = &seen[begins..];
    let method = seen.iter().take_while(|&&b| is_token(b)).count();
    if method == seen.len() {
        // No method is longer than this; a word that is can only be another protocol.
        return if method <= 32 { Verdict::NeedMore } else { Verdict::Opaque };
    }
    if method == 0 || method > 32 || !matches!(seen[method], b' ' | b'\t') {
        return Verdict::Opaque;
    }
    let rest = &seen[method + 1..];
    let line = rest.iter().position(|&b| b == b'\n').map_or(rest, |end| &rest[..end]);
    // Other line protocols have commands with arguments, too, but no version and no path after a method of HTTP's.
    if (rest.first() == Some(&b'/') && is_known(&seen[..method])) || has_version(line) {
        return Verdict::Http1;
    }
    if line.len() < rest.len() || line.iter().any(|&b| b < b' ' && !matches!(b, b'\t' | b'\r')) {
        return Verdict::Opaque;
    }
    if seen.len() >= MAX_UNDECIDED { Verdict::Http1 } else { Verdict::NeedMore }
}

fn has_version(line: &[u8]) -> bool {
    line.windows(6).any(|w| matches!(w[0], b' ' | b'\t') && w[1..] == *b"HTTP/")
}

fn is_known(method: &[u8]) -> bool {
    [b"GET".as_slice(), b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"]
        .contains(&method)
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
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

/// Reads the ClientHello and gives its bytes back. Not cancel-safe.
pub async fn read_sni(stream: Stream, deadline: Duration) -> io::Result<(Option<Box<str>>, Stream)> {
    /// A ClientHello fits in one handshake message of 64 KiB; real ones have 2.
    const MAX_HELLO: usize = 64 * 1_024;
    let (prefix, mut transport) = stream.into_parts();
    let mut seen = BytesMut::from(prefix);
    let end = Instant::now() + deadline;
    let name = loop {
        match sni(&seen) {
            Sni::Name(name) => break Some(name),
            Sni::Absent | Sni::Garbage => break None,
            Sni::NeedMore if seen.len() > MAX_HELLO => break None,
            Sni::NeedMore => {}
        }
        match time::timeout_at(end, read_more(&mut transport, &mut seen)).await {
            Err(_) | Ok(Ok(0)) => break None,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
    };
    Ok((name, Prefixed::new(seen.freeze(), transport)))
}

#[cfg(test)]
mod tests;
