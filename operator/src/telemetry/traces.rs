//! Keeps spans by trace within a byte bound; the trace that began to arrive first goes first.
//! Whose spans belong together is `assemble`'s subject, not this file's.

use super::otlp::{Rejected, attribute};
use ahash::AHashMap;
use mesh_api::trace::SpanKind;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1 as otlp,
};
use std::{collections::VecDeque, fmt::Write, sync::Arc};

/// 16 bytes, never all zero.
pub type TraceId = [u8; 16];
/// 8 bytes, never all zero.
pub type SpanId = [u8; 8];

const MAX_SPANS_PER_TRACE: usize = 2_000;
const MAX_ATTRIBUTES: usize = 128;
const MAX_NAME_BYTES: usize = 256;
const MAX_KEY_BYTES: usize = 128;
const MAX_VALUE_BYTES: usize = 1_024;
/// A span that is larger after its texts were cut is refused.
const MAX_SPAN_BYTES: usize = 64 << 10;
/// A span that starts further than this from now comes from a broken clock.
const MAX_SKEW_MS: u64 = 24 * 3_600_000;

/// A span as it was received, cut to its bounds.
#[derive(Clone, Debug)]
pub struct Span {
    pub id: SpanId,
    pub parent: Option<SpanId>,
    pub name: Box<str>,
    pub kind: SpanKind,
    pub origin: Arc<Origin>,
    pub start_us: u64,
    pub duration_us: u64,
    pub error: bool,
    pub attributes: Vec<(Box<str>, Box<str>)>,
}

impl Span {
    pub fn end_us(&self) -> u64 {
        self.start_us.saturating_add(self.duration_us)
    }

    fn heap_bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(key, value)| key.len() + value.len() + 32).sum();
        size_of::<Span>() + self.name.len() + attributes
    }
}

/// Who made a span.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    pub namespace: Box<str>,
    pub pod: Box<str>,
    /// `service.name`, as applications send it.
    pub service: Box<str>,
}

/// Every proxy tells its spans once a second, each at its own moment: so long after the first, the rest is there as well.
const SETTLED_AFTER_MS: u64 = 2_000;

/// Spans of one trace, in the order of arrival.
#[derive(Clone, Debug)]
pub struct Trace {
    pub id: TraceId,
    /// When the first of its spans arrived.
    pub arrived_ms: u64,
    pub spans: Vec<Span>,
}

#[derive(Debug)]
pub struct Traces {
    max_bytes: usize,
    bytes: usize,
    traces: AHashMap<TraceId, Arc<Trace>>,
    /// By first arrival, oldest first.
    arrived: VecDeque<TraceId>,
    /// Spans refused or evicted since start.
    pub dropped_spans: u64,
}

impl Traces {
    pub fn new(max_bytes: usize) -> Traces {
        Traces { max_bytes, bytes: 0, traces: AHashMap::new(), arrived: VecDeque::new(), dropped_spans: 0 }
    }

    pub fn ingest(&mut self, request: &ExportTraceServiceRequest, now_ms: u64) -> Rejected {
        let mut rejected = Rejected::default();
        for resource_spans in &request.resource_spans {
            let attributes =
                resource_spans.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let text = |name| cut(attribute(attributes, name).unwrap_or(""), 253).into();
            let origin = Arc::new(Origin {
                namespace: text("k8s.namespace.name"),
                pod: text("k8s.pod.name"),
                service: text("service.name"),
            });
            for span in resource_spans.scope_spans.iter().flat_map(|scope| &scope.spans) {
                match read(span, &origin, now_ms) {
                    Ok((trace, span)) => self.add(trace, span, now_ms, &mut rejected),
                    Err(reason) => rejected.add(1, || reason.into()),
                }
            }
        }
        self.dropped_spans += rejected.count;
        rejected
    }

    fn add(&mut self, id: TraceId, span: Span, now_ms: u64, rejected: &mut Rejected) {
        if !self.traces.contains_key(&id) {
            self.arrived.push_back(id);
            self.bytes += size_of::<Trace>() + 64;
        }
        let trace = Arc::make_mut(
            self.traces
                .entry(id)
                .or_insert_with(|| Arc::new(Trace { id, arrived_ms: now_ms, spans: Vec::new() })),
        );
        if trace.spans.len() >= MAX_SPANS_PER_TRACE {
            return rejected.add(1, || format!("a trace has more than {MAX_SPANS_PER_TRACE} spans"));
        }
        // An exporter that was not answered sends again; that is no second span.
        if trace.spans.iter().any(|held| held.id == span.id && held.start_us == span.start_us) {
            return;
        }
        self.bytes += span.heap_bytes();
        trace.spans.push(span);
        while self.bytes > self.max_bytes && self.arrived.len() > 1 {
            self.evict_oldest();
        }
    }

    fn evict_oldest(&mut self) {
        let Some(trace) = self.arrived.pop_front().and_then(|id| self.traces.remove(&id)) else { return };
        self.bytes -= size_of::<Trace>() + 64 + trace.spans.iter().map(Span::heap_bytes).sum::<usize>();
        self.dropped_spans += trace.spans.len() as u64;
    }

    pub fn get(&self, id: &TraceId) -> Option<Arc<Trace>> {
        self.traces.get(id).cloned()
    }

    /// The traces that arrived last, newest first; a pointer each. Those whose spans are still coming are left out.
    pub fn newest(&self, limit: usize, now_ms: u64) -> Vec<Arc<Trace>> {
        let settled = |trace: &Arc<Trace>| trace.arrived_ms + SETTLED_AFTER_MS <= now_ms;
        self.arrived.iter().rev().filter_map(|id| self.get(id)).filter(settled).take(limit).collect()
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn held(&self) -> usize {
        self.traces.len()
    }
}

fn read(span: &otlp::Span, origin: &Arc<Origin>, now_ms: u64) -> Result<(TraceId, Span), &'static str> {
    let trace = TraceId::try_from(span.trace_id.as_slice()).map_err(|_| "a trace id is not 16 bytes")?;
    let id = SpanId::try_from(span.span_id.as_slice()).map_err(|_| "a span id is not 8 bytes")?;
    if trace == [0; 16] || id == [0; 8] {
        return Err("a trace or span id is zero");
    }
    let start_us = span.start_time_unix_nano / 1000;
    if (start_us / 1000).abs_diff(now_ms) > MAX_SKEW_MS {
        return Err("a span starts more than a day from now");
    }
    if span.attributes.len() > MAX_ATTRIBUTES {
        return Err("a span has more than 128 attributes");
    }
    let name = cut(&span.name, MAX_NAME_BYTES);
    let read = Span {
        id,
        parent: SpanId::try_from(span.parent_span_id.as_slice())
            .ok()
            .filter(|parent| *parent != [0; 8] && *parent != id),
        name: if name.is_empty() { "unnamed".into() } else { name.into() },
        kind: match otlp::span::SpanKind::try_from(span.kind) {
            Ok(otlp::span::SpanKind::Server) => SpanKind::Server,
            Ok(otlp::span::SpanKind::Client) => SpanKind::Client,
            _ => SpanKind::Internal,
        },
        origin: origin.clone(),
        start_us,
        // A clock that was set back in between makes an end before the start: no duration rather than no span.
        duration_us: (span.end_time_unix_nano / 1000).saturating_sub(start_us).min(MAX_SKEW_MS * 1000),
        error: is_error(span),
        attributes: span.attributes.iter().map(text_attribute).collect(),
    };
    if read.heap_bytes() > MAX_SPAN_BYTES {
        return Err("a span is larger than 64 KiB");
    }
    Ok((trace, read))
}

/// A failing status, or an HTTP response of 500 and above.
fn is_error(span: &otlp::Span) -> bool {
    if span.status.as_ref().is_some_and(|status| status.code == otlp::status::StatusCode::Error as i32) {
        return true;
    }
    let status = span.attributes.iter().find(|attribute| attribute.key == "http.response.status_code");
    match status.and_then(|status| status.value.as_ref()).and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::IntValue(code)) => *code >= 500,
        Some(any_value::Value::StringValue(code)) => code.parse::<u16>().is_ok_and(|code| code >= 500),
        _ => false,
    }
}

fn text_attribute(attribute: &KeyValue) -> (Box<str>, Box<str>) {
    let mut value = String::new();
    if let Some(any) = &attribute.value {
        write_value(&mut value, any, 0);
    }
    (cut(&attribute.key, MAX_KEY_BYTES).into(), cut(&value, MAX_VALUE_BYTES).into())
}

/// Text of any value; what lies deeper than four levels, or beyond the bound, is `…`.
fn write_value(out: &mut String, value: &AnyValue, depth: u32) {
    use any_value::Value;
    if depth > 4 || out.len() > MAX_VALUE_BYTES {
        return out.push('…');
    }
    // Writing to a String cannot fail.
    let _ = match &value.value {
        None | Some(Value::StringValueStrindex(_)) => Ok(()),
        Some(Value::StringValue(text)) => {
            out.push_str(cut(text, MAX_VALUE_BYTES));
            Ok(())
        }
        Some(Value::BoolValue(value)) => write!(out, "{value}"),
        Some(Value::IntValue(value)) => write!(out, "{value}"),
        Some(Value::DoubleValue(value)) => write!(out, "{value}"),
        Some(Value::BytesValue(bytes)) => write!(out, "{} bytes", bytes.len()),
        Some(Value::ArrayValue(array)) => {
            out.push('[');
            for (i, value) in array.values.iter().take(32).enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_value(out, value, depth + 1);
            }
            write!(out, "]")
        }
        Some(Value::KvlistValue(list)) => {
            out.push('{');
            for (i, KeyValue { key, value, .. }) in list.values.iter().take(32).enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                out.push_str(cut(key, MAX_KEY_BYTES));
                out.push_str(": ");
                if let Some(value) = value {
                    write_value(out, value, depth + 1);
                }
            }
            write!(out, "}}")
        }
    };
}

fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

/// Ids as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A trace id from its 32 hex digits.
pub fn parse_trace_id(text: &str) -> Option<TraceId> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().filter(|id| *id != 0).map(u128::to_be_bytes)
}
