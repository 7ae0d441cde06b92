//! What a request hands on to the requests it causes: its place in a trace, and who is asking.

use hyper::{HeaderMap, header::HeaderName};

/// Headers that an application must copy from the request it answers to those it sends, for a trace to hang together and
/// for routes to know the user.
const HANDED_ON: [&str; 15] = [
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "uber-trace-id",
    "baggage",
    "end-user",
    "cookie",
    "authorization",
    "user-agent",
];

pub fn of(request: &HeaderMap) -> HeaderMap {
    let mut context = HeaderMap::new();
    for name in HANDED_ON.map(HeaderName::from_static) {
        for value in request.get_all(&name) {
            context.append(name.clone(), value.clone());
        }
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_context_is_handed_on() {
        let mut request = HeaderMap::new();
        for name in ["traceparent", "end-user", "host", "content-length", "connection"] {
            request.insert(name, "x".parse().unwrap());
        }
        let context = of(&request);
        let mut names: Vec<_> = context.keys().map(|n| n.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["end-user", "traceparent"]);
    }
}
