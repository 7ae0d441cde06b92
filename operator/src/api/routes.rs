//! Routes as written, with what was seen of them.

use super::{
    mesh::Mesh,
    tally::{Tally, share},
};
use crate::telemetry::{Label, Labels, Metric, Snapshot};
use mesh_api::{
    health::Health,
    route::{Route, RouteList},
};
use std::collections::BTreeMap;

/// Kind, namespace and name.
pub type RouteKey = (String, String, String);

pub fn key_of(route: &Route) -> RouteKey {
    (route.kind.clone(), route.namespace.clone(), route.name.clone())
}

/// A route, and which of its rules (from 0). A proxy of another make names no rule.
pub type RuleKey = (RouteKey, Option<usize>);

/// The keys under which requests by a route's rule may be counted: without its number where there is no other rule.
pub fn keys_of_rule(route: &Route, index: usize) -> impl Iterator<Item = RuleKey> {
    let unnamed = (route.rules.len() == 1).then(|| (key_of(route), None));
    [(key_of(route), Some(index))].into_iter().chain(unnamed)
}

/// The rule that a series went by.
pub fn taken(labels: &Labels<'_>) -> Option<RuleKey> {
    let text = |label| labels.get(label).to_owned();
    if labels.get(Label::RouteName).is_empty() || labels.get(Label::RouteNamespace).is_empty() {
        return None;
    }
    let key = (text(Label::RouteKind), text(Label::RouteNamespace), text(Label::RouteName));
    let number =
        labels.get(Label::RouteRule).strip_prefix("rule-").and_then(|number| number.parse::<usize>().ok());
    Some((key, number.and_then(|number| number.checked_sub(1))))
}

pub fn list(mesh: &Mesh, snapshot: &Snapshot, shown: &[String]) -> RouteList {
    let mut by_backend: BTreeMap<(RuleKey, String), Tally> = BTreeMap::new();
    let mut by_route: BTreeMap<RouteKey, Tally> = BTreeMap::new();
    for (row, labels) in snapshot.rows() {
        // Clients' proxies know the backend; servers' would count every request again.
        if row.metric() != Metric::Response || labels.get(Label::Direction) != "outbound" {
            continue;
        }
        let Some(rule) = taken(&labels) else { continue };
        let backend = format!(
            "{}/{}:{}",
            labels.get(Label::BackendNamespace),
            labels.get(Label::BackendName),
            labels.get(Label::BackendPort)
        );
        by_route.entry(rule.0.clone()).or_default().add(row, &labels);
        by_backend.entry((rule, backend)).or_default().add(row, &labels);
    }

    let routes = mesh.routes.iter().filter(|route| shown.is_empty() || shown.contains(&route.namespace));
    let routes = routes.cloned().map(|mut route| {
        let key = key_of(&route);
        if let Some(tally) = by_route.get(&key) {
            route.golden = tally.golden(snapshot.covered_s);
            route.health = Health::of(&route.golden);
        }
        for i in 0..route.rules.len() {
            let keys: Vec<RuleKey> = keys_of_rule(&route, i).collect();
            let tally = |backend: &str| {
                let mut sum = Tally::default();
                for key in &keys {
                    if let Some(tally) = by_backend.get(&(key.clone(), backend.to_owned())) {
                        sum.merge(tally);
                    }
                }
                sum
            };
            let backends = &mut route.rules[i].backends;
            let tallies: Vec<Tally> = backends.iter().map(|backend| tally(&backend.name)).collect();
            let whole: u64 = tallies.iter().map(Tally::requests).sum();
            for (backend, tally) in backends.iter_mut().zip(tallies) {
                backend.golden = tally.golden(snapshot.covered_s);
                backend.observed = share(tally.requests(), whole);
            }
        }
        route
    });
    RouteList { at_ms: snapshot.at_ms, window_s: snapshot.window_s, routes: routes.collect() }
}
