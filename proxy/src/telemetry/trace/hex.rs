//! Fixed-width hexadecimal numbers, both ways, without an allocation.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Lower,
    Any,
}

/// Exactly `N` bytes in `2 N` digits.
pub fn read<const N: usize>(text: &[u8], case: Case) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0], case)? << 4 | digit(pair[1], case)?;
    }
    Some(bytes)
}

/// At most `2 N` digits, aligned to the right; at least one.
pub fn read_short<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.is_empty() || text.len() > 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (place, c) in text.iter().rev().enumerate() {
        let half = digit(*c, Case::Any)? << (4 * (place % 2));
        bytes[N - 1 - place / 2] |= half;
    }
    Some(bytes)
}

fn digit(c: u8, case: Case) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' if case == Case::Any => Some(c - b'A' + 10),
        _ => None,
    }
}

/// A header value that is put together from pieces.
pub struct Text<const MAX: usize> {
    bytes: [u8; MAX],
    len: usize,
}

impl<const MAX: usize> Text<MAX> {
    pub fn new() -> Self {
        Text { bytes: [0; MAX], len: 0 }
    }

    pub fn hex(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.bytes[self.len] = DIGITS[usize::from(byte >> 4)];
            self.bytes[self.len + 1] = DIGITS[usize::from(byte & 0xf)];
            self.len += 2;
        }
        self
    }

    pub fn text(mut self, text: &str) -> Self {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text.as_bytes());
        self.len += text.len();
        self
    }

    /// The one allocation: a header value owns its bytes.
    pub fn done(self) -> http::HeaderValue {
        http::HeaderValue::from_bytes(&self.bytes[..self.len]).expect("hexadecimal digits and separators")
    }
}
