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

/// The route that a series went by, and which of its rules (from 0). The rule is named where a route has several.
pub fn taken(labels: &Labels<'_>) -> Option<(RouteKey, usize)> {
    let text = |label| labels.get(label).to_owned();
    if labels.get(Label::RouteName).is_empty() || labels.get(Label::RouteNamespace).is_empty() {
        return None;
    }
    let key = (text(Label::RouteKind), text(Label::RouteNamespace), text(Label::RouteName));
    let number =
        labels.get(Label::RouteRule).strip_prefix("rule-").and_then(|number| number.parse::<usize>().ok());
    Some((key, number.unwrap_or(1).saturating_sub(1)))
}

pub fn list(mesh: &Mesh, snapshot: &Snapshot, shown: &[String]) -> RouteList {
    let mut by_backend: BTreeMap<(RouteKey, usize, String), Tally> = BTreeMap::new();
    let mut by_route: BTreeMap<RouteKey, Tally> = BTreeMap::new();
    for (row, labels) in snapshot.rows() {
        // Clients' proxies know the backend; servers' would count every request again.
        if row.metric() != Metric::Response || labels.get(Label::Direction) != "outbound" {
            continue;
        }
        let Some((key, rule)) = taken(&labels) else { continue };
        let backend = format!(
            "{}/{}:{}",
            labels.get(Label::BackendNamespace),
            labels.get(Label::BackendName),
            labels.get(Label::BackendPort)
        );
        by_route.entry(key.clone()).or_default().add(row, &labels);
        by_backend.entry((key, rule, backend)).or_default().add(row, &labels);
    }

    let routes = mesh.routes.iter().filter(|route| shown.is_empty() || shown.contains(&route.namespace));
    let routes = routes.cloned().map(|mut route| {
        let key = key_of(&route);
        if let Some(tally) = by_route.get(&key) {
            route.golden = tally.golden(snapshot.covered_s);
            route.health = Health::of(&route.golden);
        }
        for (i, rule) in route.rules.iter_mut().enumerate() {
            let tally = |backend: &str| by_backend.get(&(key.clone(), i, backend.to_owned()));
            let requests = |backend: &str| tally(backend).map_or(0, Tally::requests);
            let whole: u64 = rule.backends.iter().map(|backend| requests(&backend.name)).sum();
            for backend in &mut rule.backends {
                backend.golden =
                    tally(&backend.name).map(|tally| tally.golden(snapshot.covered_s)).unwrap_or_default();
                backend.observed = share(requests(&backend.name), whole);
            }
        }
        route
    });
    RouteList { at_ms: snapshot.at_ms, window_s: snapshot.window_s, routes: routes.collect() }
}
