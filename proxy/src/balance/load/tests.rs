use super::*;

/// One second of 400 requests/s to endpoints that answer as `latency` says; gives each one's share of the requests.
fn run(loads: &[Load], start: Instant, seconds: u32, latency: impl Fn(usize, u32) -> Duration) -> Vec<f64> {
    let mut counts = vec![0; loads.len()];
    let mut random = fastrand::Rng::with_seed(7);
    for request in 0..seconds * 400 {
        let now = start + Duration::from_micros(2_500) * request;
        let a = random.usize(..loads.len());
        let b = (a + random.usize(1..loads.len())) % loads.len();
        let (a2, b2) = (loads[a].get(now).powi(2), loads[b].get(now).powi(2));
        let chosen = if random.f64() * (a2 + b2) < b2 { a } else { b };
        counts[chosen] += 1;
        loads[chosen].observe(latency(chosen, request), now);
    }
    counts.iter().map(|&count| f64::from(count) / f64::from(seconds * 400)).collect()
}

fn fresh(n: usize) -> Vec<Load> {
    (0..n).map(|_| Load::new(10_000, Duration::from_secs(10))).collect()
}

#[tokio::test]
async fn two_equals_share_evenly_though_one_hiccups() {
    let loads = fresh(2);
    // Half a millisecond, now and then 20.
    let latency = |endpoint: usize, n: u32| {
        Duration::from_micros(if endpoint == 0 && n.is_multiple_of(400) { 20_000 } else { 500 })
    };
    let shares = run(&loads, Instant::now(), 5, latency);
    assert!((0.45..0.55).contains(&shares[0]), "{shares:?}");
}

#[tokio::test]
async fn a_slow_endpoint_is_spared_and_comes_back() {
    let loads = fresh(3);
    let start = Instant::now();
    let slow = |endpoint: usize, _| Duration::from_millis(if endpoint == 0 { 200 } else { 1 });
    run(&loads, start, 5, slow);
    let shares = run(&loads, start + Duration::from_secs(5), 5, slow);
    assert!(shares[0] <= 0.10, "{shares:?}");
    let healed = |_, _| Duration::from_millis(1);
    run(&loads, start + Duration::from_secs(10), 25, healed);
    let shares = run(&loads, start + Duration::from_secs(35), 5, healed);
    assert!(shares[0] >= 0.20, "{shares:?}");
}

#[tokio::test]
async fn half_the_weight_is_less_than_half_the_load() {
    let loads = [Load::new(10_000, Duration::from_secs(10)), Load::new(5_000, Duration::from_secs(10))];
    let now = Instant::now();
    assert_eq!(loads[1].get(now), 2.0 * loads[0].get(now));
}
