//! Routes as written, with what was seen of them.

use super::{
    mesh::Mesh,
    tally::{Tally, share},
};
use crate::telemetry::{Label, Metric, Snapshot};
use mesh_api::{
    health::Health,
    route::{Route, RouteList},
};
use std::collections::{BTreeMap, HashMap};

/// Kind, namespace and name.
type RouteKey = (String, String, String);

pub fn list(mesh: &Mesh, snapshot: &Snapshot, shown: &[String]) -> RouteList {
    let mut by_backend: BTreeMap<(RouteKey, String), Tally> = BTreeMap::new();
    let mut by_route: BTreeMap<RouteKey, Tally> = BTreeMap::new();
    for (row, labels) in snapshot.rows() {
        let name = labels.get(Label::RouteName);
        // Clients' proxies know the backend; servers' would count every request again.
        if row.metric() != Metric::Response || labels.get(Label::Direction) != "outbound" || name.is_empty() {
            continue;
        }
        let text = |label| labels.get(label).to_owned();
        let key = (text(Label::RouteKind), text(Label::RouteNamespace), name.to_owned());
        let backend = format!(
            "{}/{}:{}",
            labels.get(Label::BackendNamespace),
            labels.get(Label::BackendName),
            labels.get(Label::BackendPort)
        );
        by_route.entry(key.clone()).or_default().add(row, &labels);
        by_backend.entry((key, backend)).or_default().add(row, &labels);
    }

    let routes = mesh.routes.iter().filter(|route| shown.is_empty() || shown.contains(&route.namespace));
    let routes = routes.cloned().map(|mut route| {
        let key = (route.kind.clone(), route.namespace.clone(), route.name.clone());
        if let Some(tally) = by_route.get(&key) {
            route.golden = tally.golden(snapshot.covered_s);
            route.health = Health::of(&route.golden);
        }
        observe(&mut route, snapshot.covered_s, |backend| by_backend.get(&(key.clone(), backend.to_owned())));
        route
    });
    RouteList { at_ms: snapshot.at_ms, window_s: snapshot.window_s, routes: routes.collect() }
}

/// Fills in what each backend got. Proxies say which route and backend a request took, not which rule: a backend that
/// several rules name has no share of one of them, and neither has any other backend beside it.
fn observe<'a>(route: &mut Route, covered_s: u32, tally: impl Fn(&str) -> Option<&'a Tally>) {
    let mut named: HashMap<String, usize> = HashMap::new();
    for backend in route.rules.iter().flat_map(|rule| &rule.backends) {
        *named.entry(backend.name.clone()).or_default() += 1;
    }
    for rule in &mut route.rules {
        let unambiguous = rule.backends.iter().all(|backend| named[&backend.name] == 1);
        let whole: u64 =
            rule.backends.iter().filter_map(|backend| tally(&backend.name)).map(Tally::requests).sum();
        for backend in &mut rule.backends {
            let part = tally(&backend.name);
            if let Some(part) = part {
                backend.golden = part.golden(covered_s);
            }
            if unambiguous {
                backend.observed = share(part.map_or(0, Tally::requests), whole);
            }
        }
    }
}
