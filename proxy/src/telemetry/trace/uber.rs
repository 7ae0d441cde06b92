//! Jaeger's own propagation, `uber-trace-id: trace:span:parent:flags`. Numbers come without leading zeros from older clients,
//! and the colons percent-encoded from some.

use super::{
    Context, Parent, SpanId, TraceId,
    hex::{self, Text},
};
use http::{HeaderName, HeaderValue};

pub const NAME: HeaderName = HeaderName::from_static("uber-trace-id");

const SAMPLED: u8 = 1;
const DEBUG: u8 = 2;

/// The longest there is: 32 + 16 + 16 + 2 digits and three encoded colons.
const MAX_BYTES: usize = 32 + 16 + 16 + 2 + 9;

pub fn parse(text: &[u8]) -> Option<Parent> {
    let text = text.trim_ascii();
    if text.len() > MAX_BYTES {
        return None;
    }
    let (trace, rest) = part(text)?;
    let (span, rest) = part(rest)?;
    let (_deprecated_parent, flags) = part(rest)?;
    let short = trace.len() <= 16;
    let trace = hex::read_short(trace)?;
    let span = hex::read_short(span)?;
    let [flags] = hex::read_short(flags)?;
    if trace == [0; 16] || span == [0; 8] {
        return None;
    }
    let debug = flags & DEBUG != 0;
    let sampled = Some(debug || flags & SAMPLED != 0);
    Some(Parent { trace: TraceId(trace), span: SpanId(span), sampled, debug, short })
}

/// Up to the next colon, and what is behind it.
fn part(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|c| *c == b':' || *c == b'%')?;
    let colon = if text[at] == b':' { 1 } else { 3 };
    let separator = text.get(at..at + colon)?;
    (colon == 1 || separator.eq_ignore_ascii_case(b"%3a")).then(|| (&text[..at], &text[at + colon..]))
}

pub fn write(ctx: &Context) -> HeaderValue {
    let trace = if ctx.forms.short { &ctx.trace.0[8..] } else { &ctx.trace.0[..] };
    let text = Text::<MAX_BYTES>::new().hex(trace).text(":").hex(&ctx.span.0).text(":");
    let text = match ctx.parent {
        Some(parent) => text.hex(&parent.0),
        None => text.text("0"),
    };
    let flags = match (ctx.forms.debug, ctx.sampled) {
        (true, _) => ":3",
        (false, true) => ":1",
        (false, false) => ":0",
    };
    text.text(flags).done()
}
