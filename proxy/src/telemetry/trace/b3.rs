//! B3, Zipkin's propagation: one header `b3: trace-span-decision-parent`, or many `x-b3-…`. Trace ids have 64 or 128 bits.
//! Either may hold the decision alone, without a trace.

use super::{
    Context, Found, Parent, SpanId, TraceId,
    hex::{self, Case, Text},
};
use http::{HeaderMap, HeaderName, HeaderValue};

pub const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT_SPAN: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Absent or malformed.
    Nothing,
    /// Whether to record, but no trace.
    Decision(bool),
    Parent(Parent),
}

impl Said {
    pub fn parent(self) -> Option<Parent> {
        match self {
            Said::Parent(parent) => Some(parent),
            Said::Nothing | Said::Decision(_) => None,
        }
    }

    pub fn decision(self) -> Option<bool> {
        match self {
            Said::Decision(sampled) => Some(sampled),
            Said::Nothing | Said::Parent(_) => None,
        }
    }
}

pub fn read_single(found: &Found) -> Said {
    found.b3.and_then(|value| parse(value.as_bytes())).unwrap_or(Said::Nothing)
}

pub fn parse(text: &[u8]) -> Option<Said> {
    let mut parts = text.trim_ascii().split(|c| *c == b'-');
    let first = parts.next()?;
    let Some(span) = parts.next() else {
        return Some(Said::Decision(decision(first)?.0));
    };
    let (trace, short) = trace_id(first)?;
    let span = span_id(span)?;
    let (sampled, debug) = match parts.next() {
        None => (None, false),
        Some(text) => decision(text).map(|(sampled, debug)| (Some(sampled), debug))?,
    };
    // The parent's parent is of no use to us, but has to be right.
    if let Some(grandparent) = parts.next() {
        span_id(grandparent)?;
    }
    if parts.next().is_some() {
        return None;
    }
    Some(Said::Parent(Parent { trace, span, sampled, debug, short }))
}

pub fn read_multi(found: &Found) -> Said {
    if found.b3_trace.is_none() && found.b3_sampled.is_none() {
        return Said::Nothing;
    }
    let debug = found.b3_flags.is_some_and(|flags| text(flags) == b"1");
    let sampled = match found.b3_sampled.map(text) {
        _ if debug => Some(true),
        Some(b"1" | b"true") => Some(true),
        Some(b"0" | b"false") => Some(false),
        _ => None,
    };
    let Some(trace) = found.b3_trace else {
        return sampled.map_or(Said::Nothing, Said::Decision);
    };
    let span = found.b3_span.and_then(|span| span_id(text(span)));
    let (Some((trace, short)), Some(span)) = (trace_id(text(trace)), span) else {
        return Said::Nothing;
    };
    Said::Parent(Parent { trace, span, sampled, debug, short })
}

fn text(value: &HeaderValue) -> &[u8] {
    value.as_bytes().trim_ascii()
}

/// Sampled, and debug.
fn decision(text: &[u8]) -> Option<(bool, bool)> {
    match text {
        b"0" => Some((false, false)),
        b"1" => Some((true, false)),
        b"d" => Some((true, true)),
        _ => None,
    }
}

/// The id, and whether it is a short one.
fn trace_id(text: &[u8]) -> Option<(TraceId, bool)> {
    let short = text.len() == 16;
    let trace = if short { hex::read_short(text)? } else { hex::read(text, Case::Any)? };
    (trace != [0; 16]).then_some((TraceId(trace), short))
}

fn span_id(text: &[u8]) -> Option<SpanId> {
    hex::read(text, Case::Any).filter(|span| *span != [0; 8]).map(SpanId)
}

/// The trace id with as many bits as it came with.
fn trace_digits(ctx: &Context) -> &[u8] {
    if ctx.forms.short { &ctx.trace.0[8..] } else { &ctx.trace.0 }
}

pub fn write(ctx: &Context) -> HeaderValue {
    let decision = match (ctx.forms.debug, ctx.sampled) {
        (true, _) => "-d",
        (false, true) => "-1",
        (false, false) => "-0",
    };
    let text = Text::<{ 32 + 1 + 16 + 2 + 1 + 16 }>::new();
    let text = text.hex(trace_digits(ctx)).text("-").hex(&ctx.span.0).text(decision);
    match ctx.parent {
        Some(parent) => text.text("-").hex(&parent.0).done(),
        None => text.done(),
    }
}

/// `x-b3-flags` stays as it came.
pub fn write_multi(ctx: &Context, headers: &mut HeaderMap) {
    headers.insert(TRACE, Text::<32>::new().hex(trace_digits(ctx)).done());
    headers.insert(SPAN, Text::<16>::new().hex(&ctx.span.0).done());
    match ctx.parent {
        Some(parent) => headers.insert(PARENT_SPAN, Text::<16>::new().hex(&parent.0).done()),
        None => headers.remove(PARENT_SPAN),
    };
    if !ctx.forms.debug {
        headers.insert(SAMPLED, HeaderValue::from_static(if ctx.sampled { "1" } else { "0" }));
    }
}
