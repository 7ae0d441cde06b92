//! Which ports of which Services a route governs, and what its status says.

use super::{Checked, GRPC, HTTP};
use crate::{ServiceKind, gateway::ParentRef, services::Services};
use mesh_api::route::Condition;
use std::collections::{BTreeMap, BTreeSet};

/// A parentRef to a Service, with the status that belongs to it.
#[derive(Clone, Debug)]
pub struct Parent {
    pub written: ParentRef,
    pub namespace: String,
    /// Ports that the route governs; empty where it was refused.
    pub ports: BTreeSet<u16>,
    pub conditions: Vec<Condition>,
}

/// Positions of routes in the list of all, by `(namespace, Service, port)`.
pub type Index = BTreeMap<(String, String, u16), Vec<usize>>;

/// A parentRef to a Service of this namespace, and the ports it means, or why there are none.
type Asked = (ParentRef, String, Result<BTreeSet<u16>, String>);

/// Fills in `parents` of every route and returns who governs what.
pub fn attach(routes: &mut [Checked], services: &Services) -> Index {
    // The ports that each route asks for, or why it cannot have them.
    let asked: Vec<Vec<Asked>> = routes.iter_mut().map(|route| wanted(route, services)).collect();
    // GRPCRoutes take a port from HTTPRoutes of the same group: routes of one namespace on one Service's port.
    let mut taken: BTreeSet<(String, String, String, u16)> = BTreeSet::new();
    for (route, parents) in routes.iter().zip(&asked).filter(|(route, _)| route.kind == GRPC && usable(route))
    {
        for (parent, namespace, ports) in parents {
            for port in ports.iter().flatten() {
                taken.insert((route.namespace.clone(), namespace.clone(), parent.name.clone(), *port));
            }
        }
    }
    let mut index = Index::new();
    for (position, (route, parents)) in routes.iter_mut().zip(asked).enumerate() {
        for (written, namespace, ports) in parents {
            let lost = |port: &u16| {
                let key = (route.namespace.clone(), namespace.clone(), written.name.clone(), *port);
                route.kind == HTTP && taken.contains(&key)
            };
            let verdict = match ports {
                Err(message) => Err(("NoMatchingParent", message)),
                Ok(_) if !usable(route) => Err(("UnsupportedValue", no_rule_left(route))),
                Ok(ports) => {
                    let left: BTreeSet<u16> = ports.iter().copied().filter(|port| !lost(port)).collect();
                    if left.is_empty() && !ports.is_empty() {
                        Err((
                            "RouteReasonConflicted",
                            "a GRPCRoute of this namespace governs the same port".into(),
                        ))
                    } else {
                        Ok(left)
                    }
                }
            };
            let conditions = conditions(route, &verdict);
            let ports = verdict.unwrap_or_default();
            for port in &ports {
                index.entry((namespace.clone(), written.name.clone(), *port)).or_default().push(position);
            }
            route.parents.push(Parent { written, namespace, ports, conditions });
        }
    }
    for positions in index.values_mut() {
        positions.dedup();
    }
    index
}

fn usable(route: &Checked) -> bool {
    !route.rules.is_empty() || route.dropped.is_empty()
}

fn no_rule_left(route: &Checked) -> String {
    match route.dropped.first() {
        Some((number, reason)) => format!("no rule is valid; rule {number}: {reason}"),
        None => "no rule is valid".into(),
    }
}

/// The Service parents of a route. Other kinds are other controllers' business.
fn wanted(route: &mut Checked, services: &Services) -> Vec<Asked> {
    let mut parents = vec![];
    for written in route.parent_refs.clone() {
        let is_service = written.kind.as_deref() == Some("Service");
        if is_service && written.group.is_none() {
            let name = &written.name;
            route
                .remarks
                .push(format!("parentRef Service {name} is not ours: a Service parent needs `group: \"\"`"));
        }
        if !is_service || !matches!(written.group.as_deref(), Some("" | "core")) {
            continue;
        }
        let namespace = written.namespace.clone().unwrap_or_else(|| route.namespace.clone());
        let ports = match parents.len() < 32 {
            true => ports(&written, &namespace, services),
            false => Err("a route has at most 32 parents".into()),
        };
        parents.push((written, namespace, ports));
    }
    parents
}

fn ports(written: &ParentRef, namespace: &str, services: &Services) -> Result<BTreeSet<u16>, String> {
    let name = &written.name;
    let Some(service) = services.get(&(namespace.to_owned(), name.clone())) else {
        return Err(format!("Service {namespace}/{name} not found"));
    };
    match service.kind {
        ServiceKind::ClusterIp => {}
        ServiceKind::Headless => {
            return Err(format!("Service {namespace}/{name} is headless: clients call its pods directly"));
        }
        ServiceKind::ExternalName => return Err(format!("Service {namespace}/{name} is an ExternalName")),
    }
    let by_port = |port: u16| written.port.is_none_or(|wanted| wanted == i64::from(port));
    let section = written.section_name.as_deref();
    let ports: BTreeSet<u16> = service
        .ports
        .iter()
        .filter(|own| by_port(own.port) && section.is_none_or(|wanted| own.name.as_deref() == Some(wanted)))
        .map(|own| own.port)
        .collect();
    if ports.is_empty() {
        return Err(match (written.port, section) {
            (Some(port), _) => format!("Service {namespace}/{name} has no such port {port}"),
            (None, Some(section)) => format!("Service {namespace}/{name} has no port named {section:?}"),
            (None, None) => format!("Service {namespace}/{name} has no TCP port"),
        });
    }
    Ok(ports)
}

fn conditions(route: &Checked, verdict: &Result<BTreeSet<u16>, (&'static str, String)>) -> Vec<Condition> {
    let condition = |kind: &str, status: bool, reason: &str, message: String| Condition {
        kind: kind.into(),
        status,
        reason: reason.into(),
        message,
    };
    let mut conditions = vec![match verdict {
        Ok(_) => condition("Accepted", true, "Accepted", String::new()),
        Err((reason, message)) => condition("Accepted", false, reason, message.clone()),
    }];
    let problem = route
        .rules
        .iter()
        .flat_map(|rule| rule.backends.iter().flatten())
        .find_map(|backend| backend.problem.clone());
    conditions.push(match problem {
        None => condition("ResolvedRefs", true, "ResolvedRefs", String::new()),
        Some((reason, message)) => condition("ResolvedRefs", false, reason, message),
    });
    if verdict.is_ok() && !route.dropped.is_empty() {
        let all: Vec<String> =
            route.dropped.iter().map(|(number, reason)| format!("rule {number}: {reason}")).collect();
        conditions.push(condition(
            "PartiallyInvalid",
            true,
            "UnsupportedValue",
            format!("Dropped Rule: {}", all.join("; ")),
        ));
    }
    conditions
}
