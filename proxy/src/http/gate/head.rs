//! The head of one request, as bytes: how its body is framed, if there is only one way to read that.

use super::{Kind, MAX_HEAD, MAX_LINE, REFUSED};
use crate::http::check::{MAX_HEADERS, canonical_length, transfer_encoding};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Where the head ends that `bytes` begins with: after the empty line, by anybody's reading. Empty lines before it count as part of it.
pub fn end(bytes: &[u8]) -> Option<usize> {
    let mut line = 0;
    let mut started = false;
    for newline in memchr::memchr_iter(b'\n', bytes) {
        match &bytes[line..newline] {
            b"" | b"\r" if started => return Some(newline + 1),
            b"" | b"\r" => {}
            _ => started = true,
        }
        line = newline + 1;
    }
    None
}

/// Whether a head of which this much is here cannot become one that is accepted.
pub fn too_long(bytes: &[u8]) -> Option<Kind> {
    if bytes.len() > MAX_LINE && memchr::memchr(b'\n', bytes).is_none() {
        // Not even the method has ended.
        let unbroken = memchr::memchr(b' ', bytes).is_none();
        return Some(if unbroken { Kind::BadRequest } else { Kind::UriTooLong });
    }
    (bytes.len() > MAX_HEAD).then_some(Kind::HeadersTooLarge)
}

/// `head` is complete, with its empty line.
pub fn check(head: &[u8]) -> Result<Framing, Kind> {
    let mut lines = Lines(head);
    let mut request = lines.next().ok_or(Kind::BadRequest)??;
    while request.is_empty() {
        request = lines.next().ok_or(Kind::BadRequest)??;
    }
    if request.len() > MAX_LINE {
        return Err(Kind::UriTooLong);
    }
    if head.len() > MAX_HEAD {
        return Err(Kind::HeadersTooLarge);
    }
    // A fragment has no business here (RFC 9112 §3.2), and `http` would drop it without a word.
    if memchr::memchr(b'#', request).is_some() || request.starts_with(REFUSED.as_bytes()) {
        return Err(Kind::BadRequest);
    }
    let mut framing = Framing::None;
    let mut count = 0;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        count += 1;
        let colon = memchr::memchr(b':', line).ok_or(Kind::BadRequest)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // A line that begins with a blank continues the one before, to some.
        if matches!(name.first(), None | Some(b' ' | b'\t')) {
            return Err(Kind::BadRequest);
        }
        let framed = match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => Framing::Length(length(value)?),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                transfer_encoding(value)?;
                if request.ends_with(b"HTTP/1.0") {
                    return Err(Kind::BadRequest);
                }
                Framing::Chunked
            }
            _ => continue,
        };
        if std::mem::replace(&mut framing, framed) != Framing::None {
            return Err(Kind::BadRequest);
        }
    }
    match count > MAX_HEADERS {
        true => Err(Kind::HeadersTooLarge),
        false => Ok(framing),
    }
}

fn length(value: &[u8]) -> Result<u64, Kind> {
    if !canonical_length(value) {
        return Err(Kind::BadRequest);
    }
    let digits = std::str::from_utf8(value).map_err(|_| Kind::BadRequest)?;
    digits.parse().map_err(|_| Kind::BadRequest)
}

/// Lines without their CRLF; a bare LF is an error.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Kind>;

    fn next(&mut self) -> Option<Self::Item> {
        let newline = memchr::memchr(b'\n', self.0)?;
        let (line, rest) = (&self.0[..newline], &self.0[newline + 1..]);
        self.0 = rest;
        Some(line.strip_suffix(b"\r").ok_or(Kind::BadRequest))
    }
}
