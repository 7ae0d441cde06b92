//! Follows a chunked body to its end, as RFC 9112 §7.1 writes it and no other way.

/// Longer chunk extensions or trailers than this are an attack.
const MAX_LINE: usize = 16 * 1_024;

#[derive(Debug)]
pub struct Malformed;

#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    size: u64,
    /// Bytes of the current line.
    line: usize,
    digits: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a trailer line, or of the empty one.
    Trailer,
    TrailerLine,
    TrailerLf,
    EndLf,
}

impl Chunks {
    /// How many of `bytes` are the body's, and whether it ended.
    pub fn skip(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            if self.state == State::Data {
                let n = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.size -= n as u64;
                at += n;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            let b = bytes[at];
            at += 1;
            self.line += 1;
            if self.line > MAX_LINE {
                return Err(Malformed);
            }
            self.state = match (self.state, b) {
                (State::Size, b) if b.is_ascii_hexdigit() => {
                    self.digits += 1;
                    // Sixteen digits are more than anybody has bytes; more would wrap around.
                    if self.digits > 15 {
                        return Err(Malformed);
                    }
                    let digit = (b as char).to_digit(16).ok_or(Malformed)?;
                    self.size = self.size * 16 + u64::from(digit);
                    State::Size
                }
                (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
                (State::Size, b';' | b' ' | b'\t') if self.digits > 0 => State::Extension,
                (State::Extension, b'\r') => State::SizeLf,
                (State::Extension | State::TrailerLine, b'\n' | 0) => return Err(Malformed),
                (State::Extension, _) => State::Extension,
                (State::SizeLf, b'\n') => {
                    (self.line, self.digits) = (0, 0);
                    if self.size > 0 { State::Data } else { State::Trailer }
                }
                (State::DataCr, b'\r') => State::DataLf,
                (State::DataLf, b'\n') => {
                    self.line = 0;
                    State::Size
                }
                (State::Trailer, b'\r') => State::EndLf,
                (State::Trailer, b'\n' | b' ' | b'\t' | 0) => return Err(Malformed),
                (State::Trailer, _) => State::TrailerLine,
                (State::TrailerLine, b'\r') => State::TrailerLf,
                (State::TrailerLine, _) => State::TrailerLine,
                (State::TrailerLf, b'\n') => State::Trailer,
                (State::EndLf, b'\n') => return Ok((at, true)),
                (
                    State::Size
                    | State::SizeLf
                    | State::Data
                    | State::DataCr
                    | State::DataLf
                    | State::TrailerLf
                    | State::EndLf,
                    _,
                ) => {
                    return Err(Malformed);
                }
            };
        }
        Ok((at, false))
    }
}
