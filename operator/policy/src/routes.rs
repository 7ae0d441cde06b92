//! HTTPRoutes and GRPCRoutes on Service parents: checked rule by rule, attached to the ports they govern, with the status that
//! Gateway API wants written. What is wrong in one route or rule never touches another.

mod advice;
mod attach;
mod backends;
mod filters;
mod grpc;
mod http;
pub(crate) mod options;
mod view;

use attach::{Index, attach};

use crate::{
    Meta, Service, World,
    gateway::{GRPCRoute, HTTPRoute, ParentRef},
    inbound,
    outbound::{Backend, Filter, Match, Retry},
    services::Services,
    world::Settings,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

pub const HTTP: &str = "HTTPRoute";
pub const GRPC: &str = "GRPCRoute";

/// One route, read.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    /// Zero where the source counts none.
    pub generation: i64,
    /// RFC 3339 in UTC, which sorts by time; empty (first) where the source knows no creation time.
    created: String,
    parent_refs: Vec<ParentRef>,
    /// The first that it names; a Service's routes hold for all.
    hostname: Option<String>,
    pub rules: Vec<Rule>,
    /// Rules that cannot be used: number from 1, and why.
    dropped: Vec<(usize, String)>,
    /// What is wrong with annotations and the like; nothing is lost by it.
    remarks: Vec<String>,
    pub parents: Vec<attach::Parent>,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub matches: Vec<Match>,
    pub filters: Vec<Filter>,
    /// `None`: the parent Service.
    pub backends: Option<Vec<WeightedBackend>>,
    /// All tries included. `None` leaves it to the Service; `Some(None)` says that there is none, whatever the Service says.
    pub request_timeout: Option<Option<Duration>>,
    /// Of one try.
    pub try_timeout: Option<Duration>,
    /// As the timeout.
    pub retry: Option<Option<Retry>>,
}

#[derive(Clone, Debug)]
pub(crate) struct WeightedBackend {
    /// `bookinfo/reviews-v1:9080`
    pub label: String,
    /// May be zero here.
    pub weight: u32,
    pub backend: Backend,
    pub filters: Vec<Filter>,
    /// Reason of `ResolvedRefs=False`, and a sentence.
    pub problem: Option<(&'static str, String)>,
}

impl Checked {
    pub fn meta(&self) -> Meta {
        Meta::route(self.kind, &self.namespace, &self.name)
    }

    pub fn object(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    /// For an AuthorizationPolicy that names this route. `None` when no rule is valid.
    pub fn named(&self) -> Option<inbound::Named> {
        let matches: Vec<_> = self
            .rules
            .iter()
            .flat_map(|rule| &rule.matches)
            .map(|own| match own {
                Match::Http(own) => own.clone(),
                Match::Grpc(own) => grpc::as_http(own),
            })
            .collect();
        (!matches.is_empty()).then(|| inbound::Named { meta: self.meta(), matches })
    }
}

/// All routes of a world, and which of them govern which port.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    pub routes: Vec<Checked>,
    index: Index,
}

impl Attached {
    pub fn read(world: &World, services: &Services, settings: &Settings) -> Attached {
        let mut routes = read(&world.http_routes, &world.grpc_routes, services, settings);
        let index = attach(&mut routes, services);
        for route in &mut routes {
            let odd = advice::oddities(route, services);
            route.remarks.extend(odd);
        }
        Attached { routes, index }
    }

    /// The routes that govern a port, in their order.
    pub fn on(&self, service: &Service, port: u16) -> impl Iterator<Item = &Checked> {
        let found = self.index.get(&(service.namespace.clone(), service.name.clone(), port));
        found.into_iter().flatten().map(|at| &self.routes[*at])
    }

    /// For an AuthorizationPolicy that names a route.
    pub fn named(&self, kind: &str, namespace: &str, name: &str) -> Option<inbound::Named> {
        self.find(kind, namespace, name).and_then(Checked::named)
    }

    fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&Checked> {
        let mut found = self.routes.iter().filter(|route| route.kind == kind && route.namespace == namespace);
        found.find(|route| route.name == name)
    }
}

/// Reads all routes, the oldest first, then by `namespace/name`: Gateway API's order among equals.
fn read(
    http_routes: &[Arc<HTTPRoute>],
    grpc_routes: &[Arc<GRPCRoute>],
    services: &Services,
    settings: &Settings,
) -> Vec<Checked> {
    let mut routes = vec![];
    for route in http_routes {
        let Some(mut checked) = begin(HTTP, &route.metadata, &route.spec.parent_refs, &route.spec.hostnames)
        else {
            continue;
        };
        let options = options_of(&route.metadata, &mut checked);
        let written = route.spec.rules.clone().unwrap_or_else(|| vec![Default::default()]);
        for (number, rule) in written.iter().enumerate() {
            let read = within_limits(number)
                .and_then(|()| http::rule(rule, &checked.namespace, &options, services, settings));
            keep(&mut checked, number, read);
        }
        routes.push(checked);
    }
    for route in grpc_routes {
        let Some(mut checked) = begin(GRPC, &route.metadata, &route.spec.parent_refs, &route.spec.hostnames)
        else {
            continue;
        };
        let options = options_of(&route.metadata, &mut checked);
        let written = route.spec.rules.clone().unwrap_or_else(|| vec![Default::default()]);
        for (number, rule) in written.iter().enumerate() {
            let read = within_limits(number)
                .and_then(|()| grpc::rule(rule, &checked.namespace, &options, services, settings));
            keep(&mut checked, number, read);
        }
        routes.push(checked);
    }
    routes.sort_by(|a, b| {
        (a.kind, &a.created, &a.namespace, &a.name).cmp(&(b.kind, &b.created, &b.namespace, &b.name))
    });
    routes.dedup_by(|a, b| a.kind == b.kind && a.namespace == b.namespace && a.name == b.name);
    routes
}

fn begin(
    kind: &'static str,
    metadata: &ObjectMeta,
    parent_refs: &[ParentRef],
    hostnames: &[String],
) -> Option<Checked> {
    Some(Checked {
        kind,
        namespace: metadata.namespace.clone().unwrap_or_else(|| "default".into()),
        name: metadata.name.clone()?,
        generation: metadata.generation.unwrap_or(0),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
        parent_refs: parent_refs.to_vec(),
        hostname: hostnames.first().cloned(),
        rules: vec![],
        dropped: vec![],
        remarks: vec![],
        parents: vec![],
    })
}

fn options_of(metadata: &ObjectMeta, checked: &mut Checked) -> options::Options {
    options::read(metadata.annotations.as_ref().unwrap_or(&BTreeMap::new()), &mut checked.remarks)
}

fn keep(checked: &mut Checked, number: usize, read: Result<Rule, String>) {
    match read {
        Ok(rule) => checked.rules.push(rule),
        Err(reason) => checked.dropped.push((number + 1, reason)),
    }
}

/// Gateway API allows 16 rules; a cluster's schema holds that, files do not.
fn within_limits(number: usize) -> Result<(), String> {
    if number < 16 { Ok(()) } else { Err("a route has at most 16 rules".into()) }
}
