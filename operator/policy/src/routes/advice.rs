//! What is odd about a route that holds as it is written: said to people, never held against it.

use super::{Attached, Checked, attach::Parent};
use crate::{
    PortProtocol,
    outbound::{GrpcMatch, Match},
    services::Services,
};
use std::collections::BTreeSet;

/// What its author cannot have meant. Of routes to Services only; others are other controllers' business.
pub fn oddities(route: &Checked, services: &Services) -> Vec<String> {
    let mut odd = vec![];
    if route.parents.is_empty() {
        return odd;
    }
    if route.parents.len() == route.parent_refs.len()
        && let Some(hostname) = &route.hostname
    {
        odd.push(format!(
            "hostname {hostname:?} is ignored: on a Service, a route holds for every host name"
        ));
    }
    for parent in &route.parents {
        let (namespace, name) = (&parent.namespace, &parent.written.name);
        for port in parent.ports.iter().filter(|port| is_opaque(parent, **port, services)) {
            odd.push(format!("has no effect on port {port} of Service {namespace}/{name}, which is opaque"));
        }
    }
    let is_dropped = |number: &usize| route.dropped.iter().any(|(dropped, _)| dropped == number);
    let numbers = (1..).filter(|number| !is_dropped(number));
    for (position, (number, rule)) in numbers.zip(&route.rules).enumerate() {
        let covered = |own: &Match| route.rules[..position].iter().any(|before| before.matches.contains(own));
        if rule.matches.iter().all(covered) {
            odd.push(format!("rule {number} is never reached: rules before it match the same"));
        }
        if rule.backends.as_ref().is_some_and(|backends| backends.iter().all(|backend| backend.weight == 0)) {
            odd.push(format!("rule {number} answers 500: its backends all have weight 0"));
        }
    }
    odd
}

impl Attached {
    /// What may be meant, and surprises those who did not mean it: for whoever writes the route.
    pub fn advice(&self, kind: &str, namespace: &str, name: &str, services: &Services) -> BTreeSet<String> {
        let is_it =
            |route: &&Checked| route.kind == kind && route.namespace == namespace && route.name == name;
        let Some(route) = self.routes.iter().find(is_it) else { return BTreeSet::new() };
        let mut advice = BTreeSet::new();
        for parent in &route.parents {
            let service = format!("{}/{}", parent.namespace, parent.written.name);
            if parent.namespace != namespace && !parent.ports.is_empty() {
                advice.insert(format!(
                    "holds for clients in namespace {namespace} only: Service {service} is in another"
                ));
            }
            for port in parent.ports.iter().filter(|port| !is_opaque(parent, **port, services)) {
                let key = (parent.namespace.clone(), parent.written.name.clone(), *port);
                let governing = self.index.get(&key).into_iter().flatten().map(|at| &self.routes[*at]);
                let mut rules = governing
                    .filter(|other| other.namespace == namespace && other.kind == kind)
                    .flat_map(|other| &other.rules);
                if !rules.any(|rule| rule.matches.iter().any(is_everything)) {
                    advice.insert(format!(
                        "requests to {service}:{port} that no rule matches are refused; a rule without matches takes the rest"
                    ));
                }
            }
        }
        advice
    }
}

fn is_opaque(parent: &Parent, port: u16, services: &Services) -> bool {
    let service = services.get(&(parent.namespace.clone(), parent.written.name.clone()));
    let found = service.and_then(|service| service.port(port));
    found.is_some_and(|found| found.protocol == PortProtocol::Opaque)
}

fn is_everything(own: &Match) -> bool {
    match own {
        Match::Http(own) => *own == super::http::everything(),
        Match::Grpc(own) => {
            *own == GrpcMatch { service: String::new(), method: String::new(), headers: vec![] }
        }
    }
}
