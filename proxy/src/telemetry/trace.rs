//! Trace context of a request: read from its headers, continued or begun, and passed on in every form in which it came.
//!
//! W3C `traceparent`, B3 (one header and many) and Jaeger's `uber-trace-id`. Where several came in, the first of them that is
//! valid, in this order, says what the trace is, and all that came in say the same afterwards. A `traceparent` that is
//! repeated, malformed, upper-case or of version `ff` counts as absent and is removed, and `tracestate` with it (W3C Trace
//! Context §3.2); a `tracestate` of more than 4 KiB is removed alone.
//!
//! A trace that is not recorded passes as it came: the proxy adds no span to it, so it changes nothing and writes nothing.
//!
//! Own parsers of a few lines each, because they run for every request: `docs/adr/0005-own-trace-context-parsers.md`.

mod b3;
mod hex;
mod uber;
mod w3c;

use http::{HeaderMap, HeaderValue};
use std::{sync::Arc, time::SystemTime};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TraceId(pub [u8; 16]);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SpanId(pub [u8; 8]);

/// A request's place in a trace. [`super::Worker::trace`] makes it from the request's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    pub trace: TraceId,
    /// The span that this proxy adds, if the trace is recorded; else the caller's.
    pub span: SpanId,
    pub parent: Option<SpanId>,
    sampled: bool,
    /// The span is ours, so the headers have to say so.
    fresh: bool,
    forms: Forms,
}

/// In which headers the context came, and so goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Forms {
    w3c: bool,
    /// There is a `traceparent` or `tracestate` that must not go on.
    remove_w3c: bool,
    remove_tracestate: bool,
    b3_single: bool,
    b3_multi: bool,
    uber: bool,
    /// The trace id came with 64 bits, and goes on so in B3.
    short: bool,
    /// B3's and Jaeger's "record this, whatever the ratio".
    debug: bool,
}

/// What one header (or set of headers) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace: TraceId,
    span: SpanId,
    /// `None` leaves the decision to us.
    sampled: Option<bool>,
    debug: bool,
    short: bool,
}

impl Context {
    /// No part in any trace: not recorded, and nothing is written.
    const NONE: Context = Context {
        trace: TraceId([0; 16]),
        span: SpanId([0; 8]),
        parent: None,
        sampled: false,
        fresh: false,
        forms: Forms {
            w3c: false,
            remove_w3c: false,
            remove_tracestate: false,
            b3_single: false,
            b3_multi: false,
            uber: false,
            short: false,
            debug: false,
        },
    };

    /// Continues the caller's trace or begins one. `sample` decides where the caller has not.
    pub fn of(headers: &HeaderMap, sample: impl FnOnce() -> bool) -> Context {
        let found = Found::scan(headers);
        let w3c = w3c::read(&found);
        let (single, multi) = (b3::read_single(&found), b3::read_multi(&found));
        let uber = found.uber.and_then(|value| uber::parse(value.as_bytes()));
        let forms = Forms {
            w3c: w3c.is_some(),
            remove_w3c: w3c.is_none() && (found.traceparents > 0 || found.tracestate_bytes.is_some()),
            remove_tracestate: found.tracestate_bytes.is_some_and(|bytes| bytes > w3c::MAX_TRACESTATE_BYTES),
            b3_single: single != b3::Said::Nothing,
            b3_multi: multi != b3::Said::Nothing,
            uber: uber.is_some(),
            ..Forms::default()
        };
        let Some(parent) = w3c.or(single.parent()).or(multi.parent()).or(uber) else {
            return Context::begin(forms, single.decision().or(multi.decision()), sample);
        };
        let forms = Forms { short: parent.short, debug: parent.debug, ..forms };
        let sampled = parent.sampled.unwrap_or_else(sample);
        if !sampled {
            return Context {
                trace: parent.trace,
                span: parent.span,
                parent: None,
                sampled,
                fresh: false,
                forms,
            };
        }
        let span = SpanId::random();
        Context { trace: parent.trace, span, parent: Some(parent.span), sampled, fresh: true, forms }
    }

    /// `decision`: B3 can say whether to record without saying which trace.
    fn begin(forms: Forms, decision: Option<bool>, sample: impl FnOnce() -> bool) -> Context {
        let sampled = decision.unwrap_or_else(sample);
        // A "no" without a trace passes as it came. Else the first proxy's decision is told to all after it, "no" as well:
        // each would decide anew otherwise, and traces begin in the middle.
        let fresh = decision != Some(false);
        let w3c = !forms.b3_single && !forms.b3_multi;
        let forms = Forms { w3c, ..forms };
        Context { trace: TraceId::random(), span: SpanId::random(), parent: None, sampled, fresh, forms }
    }

    /// Whether spans of this trace are recorded.
    pub fn sampled(&self) -> bool {
        self.sampled
    }

    /// Writes the context over the headers in which it came, or as `traceparent`. Does nothing for a trace that is not
    /// recorded and was begun by somebody else.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let Forms { w3c, remove_w3c, remove_tracestate, b3_single, b3_multi, uber, .. } = self.forms;
        if remove_w3c {
            headers.remove(w3c::TRACEPARENT);
        }
        if remove_w3c || remove_tracestate {
            headers.remove(w3c::TRACESTATE);
        }
        if !self.fresh {
            return;
        }
        if w3c {
            headers.insert(w3c::TRACEPARENT, w3c::write(self));
        }
        if b3_single {
            headers.insert(b3::SINGLE, b3::write(self));
        }
        if b3_multi {
            b3::write_multi(self, headers);
        }
        if uber {
            headers.insert(uber::NAME, uber::write(self));
        }
    }
}

/// The headers that matter, found in one pass: nine lookups by hash would take several times as long.
#[derive(Clone, Copy, Debug, Default)]
struct Found<'a> {
    traceparent: Option<&'a HeaderValue>,
    traceparents: usize,
    /// Of all `tracestate` together.
    tracestate_bytes: Option<usize>,
    b3: Option<&'a HeaderValue>,
    b3_trace: Option<&'a HeaderValue>,
    b3_span: Option<&'a HeaderValue>,
    b3_sampled: Option<&'a HeaderValue>,
    b3_flags: Option<&'a HeaderValue>,
    uber: Option<&'a HeaderValue>,
}

impl Found<'_> {
    fn scan(headers: &HeaderMap) -> Found<'_> {
        let mut found = Found::default();
        for (name, value) in headers {
            match name.as_str() {
                "traceparent" => {
                    found.traceparent = Some(value);
                    found.traceparents += 1;
                }
                "tracestate" => *found.tracestate_bytes.get_or_insert(0) += value.len(),
                "b3" => found.b3 = Some(value),
                "x-b3-traceid" => found.b3_trace = Some(value),
                "x-b3-spanid" => found.b3_span = Some(value),
                "x-b3-sampled" => found.b3_sampled = Some(value),
                "x-b3-flags" => found.b3_flags = Some(value),
                "uber-trace-id" => found.uber = Some(value),
                _ => {}
            }
        }
        found
    }
}

/// Decides which of the traces begun here are recorded.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    /// `None`: there is nobody to send spans to, so the proxy takes no part in traces.
    ratio: Option<f64>,
}

impl Sampler {
    pub fn new(ratio: f64) -> Sampler {
        Sampler { ratio: Some(ratio.clamp(0.0, 1.0)) }
    }

    pub fn off() -> Sampler {
        Sampler { ratio: None }
    }

    /// The context of a request with these headers.
    pub fn context(&self, headers: &HeaderMap) -> Context {
        match self.ratio {
            Some(ratio) => Context::of(headers, || ratio > 0.0 && fastrand::f64() < ratio),
            None => Context::NONE,
        }
    }
}

impl TraceId {
    fn random() -> TraceId {
        TraceId(fastrand::u128(1..).to_be_bytes())
    }
}

impl SpanId {
    fn random() -> SpanId {
        SpanId(fastrand::u64(1..).to_be_bytes())
    }
}

impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A finished span. Made for sampled requests only, so it may allocate.
#[derive(Clone, Debug)]
pub struct SpanRecord {
    pub context: Context,
    pub kind: SpanKind,
    pub start: SystemTime,
    pub end: SystemTime,
    pub method: http::Method,
    /// As it was received; cut at `?` and at 128 bytes when it is sent on.
    pub path: String,
    /// The authority.
    pub host: Option<String>,
    /// `None` where there was no response.
    pub status: Option<u16>,
    /// `true`, `no_identity`, `disabled`: [`super::metrics::labels::PeerTls::as_str`].
    pub tls: &'static str,
    pub peer_identity: Option<Arc<str>>,
    /// `namespace/name` of the route, where one has a name.
    pub route: Option<Arc<str>>,
    /// `namespace/name:port` of the backend.
    pub backend: Option<Arc<str>>,
    pub retries: u16,
    /// Why the proxy made the response, or the class of the failure.
    pub error: Option<&'static str>,
    /// The response is a failure ([`super::metrics::http::Classification`]).
    pub failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Inbound.
    Server,
    /// Outbound.
    Client,
}

#[cfg(test)]
mod tests;
