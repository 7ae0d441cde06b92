//! B3, Zipkin's propagation: one header `b3: trace-span-decision-parent`, or many `x-b3-…`. Trace ids have 64 or 128 bits.
//! Either may hold the decision alone, without a trace.

use super::{
    Context, Parent, SpanId, TraceId,
    hex::{self, Case, Text},
};
use http::{HeaderMap, HeaderName, HeaderValue};

pub const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT_SPAN: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Absent or malformed.
    Nothing,
    /// Whether to record, but no trace.
    Decision(bool),
    Parent(Parent),
}

impl Found {
    pub fn parent(self) -> Option<Parent> {
        match self {
            Found::Parent(parent) => Some(parent),
            Found::Nothing | Found::Decision(_) => None,
        }
    }

    pub fn decision(self) -> Option<bool> {
        match self {
            Found::Decision(sampled) => Some(sampled),
            Found::Nothing | Found::Parent(_) => None,
        }
    }
}

pub fn read_single(headers: &HeaderMap) -> Found {
    headers.get(SINGLE).and_then(|value| parse(value.as_bytes())).unwrap_or(Found::Nothing)
}

pub fn parse(text: &[u8]) -> Option<Found> {
    let mut parts = text.trim_ascii().split(|c| *c == b'-');
    let first = parts.next()?;
    let Some(span) = parts.next() else {
        return Some(Found::Decision(decision(first)?.0));
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
    Some(Found::Parent(Parent { trace, span, sampled, debug, short }))
}

pub fn read_multi(headers: &HeaderMap) -> Found {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.as_bytes().trim_ascii());
    let trace = text(TRACE);
    let sampled = text(SAMPLED);
    if trace.is_none() && sampled.is_none() {
        return Found::Nothing;
    }
    let debug = text(FLAGS) == Some(b"1");
    let sampled = match sampled {
        Some(b"1" | b"true") => Some(true),
        Some(b"0" | b"false") => Some(false),
        _ => None,
    };
    let sampled = if debug { Some(true) } else { sampled };
    let Some(trace) = trace else {
        return sampled.map_or(Found::Nothing, Found::Decision);
    };
    let (Some((trace, short)), Some(span)) = (trace_id(trace), text(SPAN).and_then(span_id)) else {
        return Found::Nothing;
    };
    Found::Parent(Parent { trace, span, sampled, debug, short })
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
