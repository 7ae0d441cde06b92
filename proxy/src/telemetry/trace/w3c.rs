//! W3C Trace Context: `traceparent` (version 00, and what is compatible with it) and `tracestate`, which is passed on unread.

use super::{
    Context, Found, Parent, SpanId, TraceId,
    hex::{self, Case, Text},
};
use http::{HeaderName, HeaderValue};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The specification asks for 512 at least; some vendors together need more.
pub const MAX_TRACESTATE_BYTES: usize = 4_096;

/// `00-` trace `-` span `-` flags.
const LEN: usize = 55;
const SAMPLED: u8 = 1;

pub fn read(found: &Found) -> Option<Parent> {
    if found.traceparents != 1 {
        return None;
    }
    parse(found.traceparent?.as_bytes())
}

pub fn parse(text: &[u8]) -> Option<Parent> {
    let text = text.trim_ascii();
    let (known, rest) = text.split_at_checked(LEN)?;
    if known[2] != b'-' || known[35] != b'-' || known[52] != b'-' {
        return None;
    }
    let [version] = hex::read(&known[..2], Case::Lower)?;
    // A later version may have more fields, version 00 has none; ff is forbidden.
    if version == 0xff || (version == 0 && !rest.is_empty()) || !(rest.is_empty() || rest[0] == b'-') {
        return None;
    }
    let trace = hex::read(&known[3..35], Case::Lower)?;
    let span = hex::read(&known[36..52], Case::Lower)?;
    let [flags] = hex::read(&known[53..], Case::Lower)?;
    if trace == [0; 16] || span == [0; 8] {
        return None;
    }
    let sampled = Some(flags & SAMPLED != 0);
    Some(Parent { trace: TraceId(trace), span: SpanId(span), sampled, debug: false, short: false })
}

pub fn write(ctx: &Context) -> HeaderValue {
    let flags = if ctx.sampled { "-01" } else { "-00" };
    Text::<LEN>::new().text("00-").hex(&ctx.trace.0).text("-").hex(&ctx.span.0).text(flags).done()
}
