//! When a route may be called accepted: as soon as the proxies that are connected to us have it. Those of other replicas hear of it at the
//! same time; one that is slow to read is not waited for.

use mesh_policy::RouteStatus;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;

/// A new generation of a route is waited for so long, where some proxy does not read it.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Settled {
    /// Since when each generation is in force.
    since: HashMap<(&'static str, String, String), (i64, Instant)>,
    /// Whether some were not, in this round.
    pub is_waiting: bool,
}

impl Settled {
    fn key(status: &RouteStatus) -> (&'static str, String, String) {
        (status.kind, status.namespace.clone(), status.name.clone())
    }

    /// A round about these begins.
    pub fn begin(&mut self, statuses: &[RouteStatus]) {
        let keys: HashSet<_> = statuses.iter().map(Settled::key).collect();
        self.since.retain(|key, _| keys.contains(key));
        self.is_waiting = false;
    }

    pub fn is_settled(&mut self, status: &RouteStatus, told: bool, now: Instant) -> bool {
        let (generation, since) = self.since.entry(Settled::key(status)).or_insert((status.generation, now));
        if *generation != status.generation {
            (*generation, *since) = (status.generation, now);
        }
        let settled = told || now.saturating_duration_since(*since) >= SETTLE;
        self.is_waiting |= !settled;
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_settled_when_all_have_it_or_have_had_a_second() {
        let route = |generation: i64| RouteStatus {
            kind: "HTTPRoute",
            namespace: "shop".into(),
            name: "cart".into(),
            generation,
            parents: vec![],
        };
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut settled = Settled::default();
        let mut is_settled = |generation, told, ms| settled.is_settled(&route(generation), told, after(ms));
        assert!(is_settled(1, true, 0), "all have it");
        assert!(!is_settled(2, false, 5_000));
        assert!(!is_settled(2, false, 5_900));
        assert!(is_settled(2, false, 6_000), "somebody does not read");
        assert!(settled.is_waiting);
        settled.begin(&[route(2)]);
        assert!(!settled.is_waiting);
    }
}
