//! What a stock proxy demands of an outbound policy before it obeys it, as a list of complaints. Written from the contract; it
//! shares nothing with our own proxy's decoder.

use linkerd2_proxy_api::{
    destination::WeightedAddr,
    outbound::{self, backend, http_route as http, opaque_route as opaque, proxy_protocol::Kind},
};

/// Everything that is wrong with a policy; empty when a proxy can obey it.
pub fn complaints(policy: &outbound::OutboundPolicy) -> Vec<String> {
    let mut bad = vec![];
    if policy.metadata.as_ref().is_none_or(|meta| meta.kind.is_none()) {
        bad.push("the policy has no metadata".into());
    }
    match policy.protocol.as_ref().and_then(|protocol| protocol.kind.as_ref()) {
        None => bad.push("no protocol".into()),
        Some(Kind::Detect(detect)) => {
            if detect.timeout.is_none() {
                bad.push("detect: no timeout".into());
            }
            match (&detect.opaque, &detect.http1, &detect.http2) {
                (Some(opaque), Some(http1), Some(http2)) => {
                    opaque_routes(&opaque.routes, &mut bad);
                    http_routes(&http1.routes, http1.failure_accrual.as_ref(), &mut bad);
                    http_routes(&http2.routes, http2.failure_accrual.as_ref(), &mut bad);
                }
                _ => bad.push("detect: not all three protocols are given".into()),
            }
        }
        Some(Kind::Http1(http)) => http_routes(&http.routes, http.failure_accrual.as_ref(), &mut bad),
        Some(Kind::Http2(http)) => http_routes(&http.routes, http.failure_accrual.as_ref(), &mut bad),
        Some(Kind::Opaque(opaque)) => opaque_routes(&opaque.routes, &mut bad),
        Some(Kind::Grpc(grpc)) => grpc_routes(grpc, &mut bad),
        Some(Kind::Tls(_)) => bad.push("TLS routes are not ours".into()),
    }
    bad
}

fn http_routes(
    routes: &[outbound::HttpRoute],
    accrual: Option<&outbound::FailureAccrual>,
    bad: &mut Vec<String>,
) {
    failure_accrual(accrual, bad);
    if routes.is_empty() {
        bad.push("no HTTP route".into());
    }
    for (rule, route) in routes.iter().flat_map(|route| route.rules.iter().map(move |rule| (rule, route))) {
        if route.metadata.is_none() {
            bad.push("an HTTP route has no metadata".into());
        }
        for filter in &rule.filters {
            if filter.kind.is_none() {
                bad.push("an HTTP filter without kind".into());
            }
        }
        if let Some(retry) = &rule.retry {
            match &retry.conditions {
                None => bad.push("retry without conditions".into()),
                Some(conditions) => {
                    for range in &conditions.status_ranges {
                        if !(1..=599).contains(&range.start) || !(range.start..=599).contains(&range.end) {
                            bad.push(format!("retry on {}–{}", range.start, range.end));
                        }
                    }
                }
            }
            backoff(retry.backoff.as_ref(), "retry", bad);
        }
        match rule.backends.as_ref().and_then(|backends| backends.kind.as_ref()) {
            None => bad.push("a rule without a distribution".into()),
            Some(http::distribution::Kind::Empty(_)) => {}
            Some(http::distribution::Kind::FirstAvailable(first)) => {
                distribution(first.backends.iter().map(|backend| (backend.backend.as_ref(), 1)), bad);
            }
            Some(http::distribution::Kind::RandomAvailable(random)) => {
                let backends = random.backends.iter();
                distribution(
                    backends.map(|weighted| {
                        (
                            weighted.backend.as_ref().and_then(|backend| backend.backend.as_ref()),
                            weighted.weight,
                        )
                    }),
                    bad,
                );
            }
        }
    }
}

fn grpc_routes(grpc: &outbound::proxy_protocol::Grpc, bad: &mut Vec<String>) {
    use outbound::grpc_route::distribution::Kind;
    failure_accrual(grpc.failure_accrual.as_ref(), bad);
    if grpc.routes.is_empty() {
        bad.push("no gRPC route".into());
    }
    for route in &grpc.routes {
        if route.metadata.is_none() {
            bad.push("a gRPC route has no metadata".into());
        }
        for rule in &route.rules {
            match rule.backends.as_ref().and_then(|backends| backends.kind.as_ref()) {
                None => bad.push("a gRPC rule without a distribution".into()),
                Some(Kind::Empty(_)) => {}
                Some(Kind::FirstAvailable(first)) => {
                    distribution(first.backends.iter().map(|backend| (backend.backend.as_ref(), 1)), bad);
                }
                Some(Kind::RandomAvailable(random)) => distribution(
                    random.backends.iter().map(|weighted| {
                        (
                            weighted.backend.as_ref().and_then(|backend| backend.backend.as_ref()),
                            weighted.weight,
                        )
                    }),
                    bad,
                ),
            }
        }
    }
}

fn opaque_routes(routes: &[outbound::OpaqueRoute], bad: &mut Vec<String>) {
    let [route] = routes else {
        bad.push(format!("{} opaque routes, not one", routes.len()));
        return;
    };
    let [rule] = &route.rules[..] else {
        bad.push(format!("{} opaque rules, not one", route.rules.len()));
        return;
    };
    if route.metadata.is_none() {
        bad.push("the opaque route has no metadata".into());
    }
    match rule.backends.as_ref().and_then(|backends| backends.kind.as_ref()) {
        None => bad.push("the opaque rule has no distribution".into()),
        Some(opaque::distribution::Kind::Empty(_)) => {}
        Some(opaque::distribution::Kind::FirstAvailable(first)) => {
            distribution(first.backends.iter().map(|backend| (backend.backend.as_ref(), 1)), bad);
        }
        Some(opaque::distribution::Kind::RandomAvailable(random)) => distribution(
            random.backends.iter().map(|weighted| {
                (weighted.backend.as_ref().and_then(|backend| backend.backend.as_ref()), weighted.weight)
            }),
            bad,
        ),
    }
}

fn distribution<'a>(
    backends: impl Iterator<Item = (Option<&'a outbound::Backend>, u32)>,
    bad: &mut Vec<String>,
) {
    let (mut count, mut weight) = (0, 0_u64);
    for (backend, its) in backends {
        count += 1;
        weight += u64::from(its);
        match backend {
            None => bad.push("a distribution names no backend".into()),
            Some(backend) => check_backend(backend, bad),
        }
    }
    if count == 0 || weight == 0 {
        bad.push(format!("a distribution over {count} backends of weight {weight}; want `empty`"));
    }
}

#[allow(clippy::collapsible_match)] // A case for each kind reads better than a guard that falls through.
fn check_backend(backend: &outbound::Backend, bad: &mut Vec<String>) {
    if backend.metadata.as_ref().is_none_or(|meta| meta.kind.is_none()) {
        bad.push("a backend without metadata".into());
    }
    match &backend.queue {
        Some(queue) if queue.capacity > 0 && queue.failfast_timeout.is_some() => {}
        queue => bad.push(format!("a backend's queue is {queue:?}")),
    }
    match &backend.kind {
        // Legal: such a backend always fails.
        None => {}
        Some(backend::Kind::Forward(WeightedAddr { addr, .. })) => {
            if addr.as_ref().is_none_or(|addr| addr.ip.is_none()) {
                bad.push("a forward backend without address".into());
            }
        }
        Some(backend::Kind::Balancer(balancer)) => {
            let discovery = balancer.discovery.as_ref().and_then(|discovery| discovery.kind.as_ref());
            let Some(backend::endpoint_discovery::Kind::Dst(dst)) = discovery else {
                bad.push("a balancer without discovery".into());
                return;
            };
            if !dst.path.contains(':') {
                bad.push(format!("a balancer's path is {:?}", dst.path));
            }
            match &balancer.load {
                Some(backend::balance_p2c::Load::PeakEwma(ewma)) => {
                    if ewma.default_rtt.is_none() || ewma.decay.is_none() {
                        bad.push("peak EWMA without its times".into());
                    }
                }
                load => bad.push(format!("a balancer's load is {load:?}")),
            }
        }
    }
}

fn failure_accrual(accrual: Option<&outbound::FailureAccrual>, bad: &mut Vec<String>) {
    use outbound::failure_accrual::Kind;
    match accrual.and_then(|accrual| accrual.kind.as_ref()) {
        None => {}
        Some(Kind::ConsecutiveFailures(failures)) => {
            if failures.backoff.is_none() {
                bad.push("failure accrual without back-off".into());
            }
            backoff(failures.backoff.as_ref(), "failure accrual", bad);
        }
        Some(Kind::Unified(_)) => bad.push("unified failure accrual is not ours".into()),
    }
}

fn backoff(backoff: Option<&outbound::ExponentialBackoff>, of: &str, bad: &mut Vec<String>) {
    let Some(backoff) = backoff else { return };
    let seconds = |time: &Option<prost_types::Duration>| {
        time.as_ref().map(|time| time.seconds as f64 + f64::from(time.nanos) / 1e9)
    };
    match (seconds(&backoff.min_backoff), seconds(&backoff.max_backoff)) {
        (Some(min), Some(max)) if min > 0.0 && min <= max && (0.0..=1.0).contains(&backoff.jitter_ratio) => {}
        _ => bad.push(format!("{of}: back-off {backoff:?}")),
    }
}
