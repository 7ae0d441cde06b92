use super::*;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    of.iter().map(pair).collect::<Vec<_>>().into_iter().fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    })
}

/// What goes on, with the span's own id as `SPAN*`.
fn passed_on(of: &[(&'static str, &str)], ratio: bool) -> (Context, Vec<String>) {
    let mut headers = headers(of);
    let ctx = Context::of(&headers, || ratio);
    ctx.inject(&mut headers);
    let own: String = ctx.span.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let trace = ctx.trace.to_string();
    let show = |(name, value): (&HeaderName, &HeaderValue)| {
        let value =
            value.to_str().unwrap().replace(TRACE, "TRACE").replace(SPAN, "SPAN").replace(&own, "OWN");
        format!("{name}: {}", value.replace(&trace, "NEW"))
    };
    let mut lines: Vec<String> = headers.iter().map(show).collect();
    lines.sort();
    (ctx, lines)
}

#[test]
fn a_recorded_trace_goes_on_with_our_span_in_it() {
    let (ctx, lines) =
        passed_on(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01")), ("tracestate", "a=b")], false);
    assert_eq!(lines, ["traceparent: 00-TRACE-OWN-01", "tracestate: a=b"]);
    assert!(ctx.sampled());
    assert_eq!(ctx.parent, hex::read(SPAN.as_bytes(), hex::Case::Lower).map(SpanId));
}

#[test]
fn a_trace_that_is_not_recorded_passes_untouched() {
    let (ctx, lines) = passed_on(&[("traceparent", &format!("00-{TRACE}-{SPAN}-00"))], true);
    assert_eq!(lines, ["traceparent: 00-TRACE-SPAN-00"]);
    assert!(!ctx.sampled());
}

#[test]
fn what_came_in_several_forms_goes_on_in_all_of_them() {
    let (_, lines) = passed_on(
        &[
            ("traceparent", &format!("00-{TRACE}-{SPAN}-01")),
            ("b3", "000000000000000a-000000000000000b-0"),
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", SPAN),
            ("x-b3-sampled", "1"),
            ("uber-trace-id", "a:b:0:0"),
        ],
        false,
    );
    assert_eq!(
        lines,
        [
            "b3: TRACE-OWN-1-SPAN",
            "traceparent: 00-TRACE-OWN-01",
            "uber-trace-id: TRACE:OWN:SPAN:1",
            "x-b3-parentspanid: SPAN",
            "x-b3-sampled: 1",
            "x-b3-spanid: OWN",
            "x-b3-traceid: TRACE",
        ]
    );
}

#[test]
fn no_context_begins_a_trace_and_tells_the_decision() {
    assert_eq!(passed_on(&[], true).1, ["traceparent: 00-NEW-OWN-01"]);
    assert_eq!(passed_on(&[], false).1, ["traceparent: 00-NEW-OWN-00"]);
}

/// reliability.md H-44.
#[test]
fn a_bad_traceparent_begins_a_new_trace_and_takes_tracestate_with_it() {
    let good = format!("00-{TRACE}-{SPAN}-01");
    let bad = [
        good.to_uppercase(),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("00-{TRACE}-{SPAN}-01-more"),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{TRACE}-{SPAN}"),
        "garbage".to_owned(),
        String::new(),
    ];
    for bad in &bad {
        let (_, lines) = passed_on(&[("traceparent", bad), ("tracestate", "a=b")], true);
        assert_eq!(lines, ["traceparent: 00-NEW-OWN-01"], "{bad}");
    }
    let (_, lines) =
        passed_on(&[("traceparent", &good), ("traceparent", &good), ("tracestate", "a=b")], true);
    assert_eq!(lines, ["traceparent: 00-NEW-OWN-01"]);
}

#[test]
fn a_huge_tracestate_is_dropped_alone() {
    let huge = format!("a={}", "x".repeat(10_240));
    for flags in ["01", "00"] {
        let (_, lines) = passed_on(
            &[("traceparent", &format!("00-{TRACE}-{SPAN}-{flags}")), ("tracestate", &huge)],
            false,
        );
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
}

#[test]
fn a_later_version_is_read_as_far_as_it_is_known() {
    let (_, lines) =
        passed_on(&[("traceparent", &format!("cc-{TRACE}-{SPAN}-01-what-the-future-brings"))], false);
    assert_eq!(lines, ["traceparent: 00-TRACE-OWN-01"]);
}

#[test]
fn a_bad_traceparent_beside_a_good_b3_is_removed() {
    let (_, lines) = passed_on(&[("traceparent", "bad"), ("b3", &format!("{TRACE}-{SPAN}-0"))], true);
    assert_eq!(lines, ["b3: TRACE-SPAN-0"]);
}

#[test]
fn b3_may_decide_without_a_trace() {
    let (ctx, lines) = passed_on(&[("b3", "0")], true);
    assert_eq!((ctx.sampled(), lines), (false, vec!["b3: 0".to_owned()]));
    let (ctx, lines) = passed_on(&[("b3", "1")], false);
    assert_eq!((ctx.sampled(), lines), (true, vec!["b3: NEW-OWN-1".to_owned()]));
    let (ctx, lines) = passed_on(&[("x-b3-sampled", "0")], true);
    assert_eq!((ctx.sampled(), lines), (false, vec!["x-b3-sampled: 0".to_owned()]));
}

#[test]
fn b3_without_a_decision_leaves_it_to_the_ratio() {
    let b3 = format!("{TRACE}-{SPAN}");
    assert_eq!(passed_on(&[("b3", &b3)], true).1, ["b3: TRACE-OWN-1-SPAN"]);
    assert_eq!(passed_on(&[("b3", &b3)], false).1, ["b3: TRACE-SPAN"]);
}

#[test]
fn a_short_trace_id_stays_short_and_debug_stays_debug() {
    let (ctx, lines) = passed_on(&[("b3", &format!("a3ce929d0e0e4736-{SPAN}-d"))], false);
    assert_eq!(lines, ["b3: a3ce929d0e0e4736-OWN-d-SPAN"]);
    assert_eq!(ctx.trace.to_string(), "0000000000000000a3ce929d0e0e4736");
}

#[test]
fn jaeger_without_leading_zeros_and_with_encoded_colons() {
    let (ctx, lines) = passed_on(&[("uber-trace-id", "a3ce929d0e0e4736%3Af067aa0ba902b7%3a0%3A1")], false);
    assert_eq!(lines, ["uber-trace-id: a3ce929d0e0e4736:OWN:SPAN:1"]);
    assert!(ctx.sampled());
}

#[test]
fn ids_are_told_in_lower_case() {
    let (_, lines) =
        passed_on(&[("b3", &format!("{}-{}-1", TRACE.to_uppercase(), SPAN.to_uppercase()))], false);
    assert_eq!(lines, ["b3: TRACE-OWN-1-SPAN"]);
}

const NAMES: [&str; 9] = [
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "uber-trace-id",
];

proptest! {
    /// Whatever the headers hold, there is a context, and reading what was written gives the same trace.
    #[test]
    fn any_headers_give_a_context_that_survives_the_next_hop(
        sent in prop::collection::vec((0..NAMES.len(), "[0-9a-fA-F:%d -]{0,60}|[ -~]{0,20}"), 0..8),
        decisions in any::<(bool, bool)>(),
    ) {
        let sent: Vec<_> = sent.iter().map(|(name, value)| (NAMES[*name], value.as_str())).collect();
        let mut map = headers(&sent);
        let ctx = Context::of(&map, || decisions.0);
        ctx.inject(&mut map);
        let next = Context::of(&map, || decisions.1);
        if ctx.fresh {
            prop_assert_eq!(next.trace, ctx.trace);
            prop_assert_eq!(next.sampled, ctx.sampled);
            prop_assert_eq!(next.parent.unwrap_or(next.span), ctx.span);
        }
    }

    /// Each form says what the context was, whichever form that is.
    #[test]
    fn every_form_round_trips(trace in 1..=u128::MAX, span in 1..=u64::MAX, sampled: bool) {
        let mut ctx = Context::begin(Forms::default(), Some(sampled), || unreachable!());
        (ctx.trace, ctx.span) = (TraceId(u128::to_be_bytes(trace)), SpanId(u64::to_be_bytes(span)));
        let parent = Parent { trace: ctx.trace, span: ctx.span, sampled: Some(sampled), debug: false, short: false };
        prop_assert_eq!(w3c::parse(w3c::write(&ctx).as_bytes()), Some(parent));
        prop_assert_eq!(b3::parse(b3::write(&ctx).as_bytes()), Some(b3::Said::Parent(parent)));
        prop_assert_eq!(uber::parse(uber::write(&ctx).as_bytes()), Some(parent));
        let mut map = HeaderMap::new();
        b3::write_multi(&ctx, &mut map);
        prop_assert_eq!(b3::read_multi(&Found::scan(&map)), b3::Said::Parent(parent));
    }

    #[test]
    fn parsers_take_any_bytes(bytes: Vec<u8>) {
        let _ = (w3c::parse(&bytes), b3::parse(&bytes), uber::parse(&bytes));
    }
}
