//! What is odd about a route that holds as it is written: said to people, never held against it.

use super::{Attached, Checked, attach::Parent};
use crate::{
    PortProtocol, Service,
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
        let Some(service) = service(parent, services) else { continue };
        let Service { namespace, name, .. } = service;
        for port in parent.ports.iter().filter(|port| is_opaque(service, **port)) {
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
        let mut advice = BTreeSet::new();
        for parent in self.find(kind, namespace, name).into_iter().flat_map(|route| &route.parents) {
            let Some(service) = service(parent, services) else { continue };
            let full = format!("{}/{}", service.namespace, service.name);
            if service.namespace != namespace && !parent.ports.is_empty() {
                advice.insert(format!(
                    "holds for clients in namespace {namespace} only: Service {full} is in another"
                ));
            }
            for port in parent.ports.iter().filter(|port| !is_opaque(service, **port)) {
                let mut rules = self
                    .on(service, *port)
                    .filter(|other| other.namespace == namespace && other.kind == kind)
                    .flat_map(|other| &other.rules);
                if !rules.any(|rule| rule.matches.iter().any(is_everything)) {
                    advice.insert(format!(
                        "requests to {full}:{port} that no rule matches are refused; a rule without matches takes the rest"
                    ));
                }
            }
        }
        advice
    }
}

fn service<'a>(parent: &Parent, services: &'a Services) -> Option<&'a Service> {
    services.get(&(parent.namespace.clone(), parent.written.name.clone())).map(AsRef::as_ref)
}

fn is_opaque(service: &Service, port: u16) -> bool {
    service.port(port).is_some_and(|found| found.protocol == PortProtocol::Opaque)
}

fn is_everything(own: &Match) -> bool {
    match own {
        Match::Http(own) => *own == super::http::everything(),
        Match::Grpc(own) => {
            *own == GrpcMatch { service: String::new(), method: String::new(), headers: vec![] }
        }
    }
}
