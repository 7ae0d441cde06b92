//! Which of a Service's endpoints a client is to use, by where it is: those of its node, or those that hints of EndpointSlices leave to
//! its zone or node. As kube-proxy reads them, for a mesh takes its place.

use crate::{Authority, Service, endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::sync::Arc;

/// The label that says in which zone a Node is.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// Where a client is, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    pub node: Option<&'a str>,
    pub zone: Option<&'a str>,
}

/// `trafficDistribution` of a Service: what hints its EndpointSlices are to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    SameZone,
    SameNode,
}

impl Prefer {
    /// `PreferClose` (KEP-4444) is the older name of `PreferSameZone` (KEP-3015).
    pub(crate) fn parse(text: &str) -> Option<Prefer> {
        match text {
            "PreferSameZone" | "PreferClose" => Some(Prefer::SameZone),
            "PreferSameNode" => Some(Prefer::SameNode),
            _ => None,
        }
    }
}

/// What a client's endpoints of a Service depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// All clients have the same.
    Cluster,
    /// The client's node: `internalTrafficPolicy: Local`.
    Node,
    /// The client's zone, by hints.
    HintedZone,
    /// The client's node and zone, by hints.
    HintedNode,
}

impl Reach {
    /// As the Service says, else as hints do. `None` where neither says anything: as long as no endpoint is ready, there are no hints.
    pub(crate) fn of(
        authority: &Authority,
        service: &Service,
        slices: &[Arc<EndpointSlice>],
    ) -> Option<Reach> {
        // A Pod that is asked for by its name is meant, wherever it is.
        if authority.host.is_some() {
            return Some(Reach::Cluster);
        }
        if service.node_local {
            return Some(Reach::Node);
        }
        match service.prefers {
            Some(Prefer::SameZone) => return Some(Reach::HintedZone),
            Some(Prefer::SameNode) => return Some(Reach::HintedNode),
            None => {}
        }
        // Topology aware routing (KEP-2433), and whoever else writes hints.
        let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        let mut ready = endpoints.filter(|endpoint| endpoints::is_ready(endpoint)).peekable();
        ready.peek()?;
        let mut hints = ready.filter_map(|endpoint| endpoint.hints.as_ref());
        if hints.clone().any(|hints| hints.for_nodes.is_some()) {
            Some(Reach::HintedNode)
        } else if hints.any(|hints| hints.for_zones.is_some()) {
            Some(Reach::HintedZone)
        } else {
            Some(Reach::Cluster)
        }
    }
}

/// Whether a hint of some endpoint names this node.
pub(crate) fn names_node(slices: &[Arc<EndpointSlice>], node: &str) -> bool {
    let hints = slices.iter().flat_map(|slice| &slice.endpoints).filter_map(|one| one.hints.as_ref());
    hints.filter_map(|hints| hints.for_nodes.as_ref()).flatten().any(|own| own.name == node)
}

/// The hints that count for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Near {
    Anywhere,
    Node,
    Zone,
}

impl Near {
    /// Hints count where every ready endpoint has some, and one at least is for us: so nobody is left without endpoints, and while some
    /// of them have not been spread over zones yet, none is preferred.
    pub fn of<'a>(ready: impl Iterator<Item = &'a Endpoint> + Clone, place: Place<'_>) -> Near {
        let counts = |near: Near| {
            let mut one_is_ours = false;
            let all_hint = ready.clone().all(|endpoint| {
                let hint = near.hint(endpoint, place);
                one_is_ours |= hint == Some(true);
                hint.is_some()
            });
            all_hint && one_is_ours
        };
        [Near::Node, Near::Zone].into_iter().find(|near| counts(*near)).unwrap_or(Near::Anywhere)
    }

    pub fn takes(self, endpoint: &Endpoint, place: Place<'_>) -> bool {
        self.hint(endpoint, place).unwrap_or(true)
    }

    /// Whether an endpoint's hints name the client's place; none where it has none.
    fn hint(self, endpoint: &Endpoint, place: Place<'_>) -> Option<bool> {
        let hints = endpoint.hints.as_ref()?;
        match self {
            Near::Anywhere => None,
            Near::Node => {
                let nodes = hints.for_nodes.as_ref().filter(|nodes| !nodes.is_empty())?;
                Some(nodes.iter().any(|own| Some(&*own.name) == place.node))
            }
            Near::Zone => {
                let zones = hints.for_zones.as_ref().filter(|zones| !zones.is_empty())?;
                Some(zones.iter().any(|own| Some(&*own.name) == place.zone))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Place<'_> = Place { node: Some("n1"), zone: Some("a") };

    /// Nodes and zones that an endpoint is for.
    fn endpoint((nodes, zones): (&[&str], &[&str])) -> Endpoint {
        let named =
            |names: &[&str]| names.iter().map(|name| serde_json::json!({ "name": name })).collect::<Vec<_>>();
        let hints = serde_json::json!({ "forNodes": named(nodes), "forZones": named(zones) });
        serde_json::from_value(serde_json::json!({ "addresses": ["10.0.0.1"], "hints": hints })).unwrap()
    }

    fn near(all: &[(&[&str], &[&str])], place: Place<'_>) -> Near {
        let all: Vec<Endpoint> = all.iter().map(|one| endpoint(*one)).collect();
        Near::of(all.iter(), place)
    }

    #[test]
    fn the_nearest_counts_that_all_hint_at_and_one_has() {
        let zones: &[(&[&str], &[&str])] = &[(&[], &["a"]), (&[], &["b", "c"])];
        assert_eq!(near(zones, HERE), Near::Zone);
        assert_eq!(near(zones, Place { zone: Some("c"), ..HERE }), Near::Zone);
        assert_eq!(near(zones, Place { zone: Some("d"), ..HERE }), Near::Anywhere, "nobody is for us");
        assert_eq!(near(zones, Place { zone: None, ..HERE }), Near::Anywhere, "where we are is not known");
        assert_eq!(near(&[(&[], &["a"]), (&[], &[])], HERE), Near::Anywhere, "one has no hint");
        let nodes: &[(&[&str], &[&str])] = &[(&["n1"], &["a"]), (&["n2"], &["a"])];
        assert_eq!(near(nodes, HERE), Near::Node);
        assert_eq!(near(nodes, Place { node: Some("n3"), ..HERE }), Near::Zone, "the next best");
        assert_eq!(near(&[(&["n1"], &["a"]), (&[], &["a"])], HERE), Near::Zone, "one is for no node");
        assert_eq!(near(&[], HERE), Near::Anywhere);
    }

    #[test]
    fn who_is_near_is_taken() {
        let (here, there) = (endpoint((&["n1"], &["a"])), endpoint((&["n2"], &["a", "b"])));
        let takes = |near: Near| [near.takes(&here, HERE), near.takes(&there, HERE)];
        assert_eq!(takes(Near::Anywhere), [true, true]);
        assert_eq!(takes(Near::Zone), [true, true]);
        assert_eq!(takes(Near::Node), [true, false]);
    }
}
