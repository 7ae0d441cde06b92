//! A route as people see it: the API's form, in words, and what is wrong with it.

use super::{Checked, Rule};
use crate::{
    duration,
    outbound::{Filter, HeaderModifier, HttpMatch, Match, NamedMatch, PathMatch, Retry, RetryOn, ValueMatch},
};
use mesh_api::{golden::Golden, health::Health, route};

impl Checked {
    /// Figures are empty; who measures traffic fills them in.
    pub fn view(&self) -> route::Route {
        let parents = self.parents.iter().map(|parent| route::Parent {
            parent: match parent.written.port {
                Some(port) => format!("Service {}/{}:{port}", parent.namespace, parent.written.name),
                None => format!("Service {}/{}", parent.namespace, parent.written.name),
            },
            conditions: parent.conditions.clone(),
        });
        route::Route {
            kind: self.kind.into(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            parents: parents.collect(),
            rules: self.rules.iter().map(|rule| self.view_rule(rule)).collect(),
            health: Health::Idle,
            golden: Golden::default(),
        }
    }

    fn view_rule(&self, rule: &Rule) -> route::Rule {
        let backends = match &rule.backends {
            Some(backends) => {
                let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
                let share = |weight: u32| if total == 0 { 0.0 } else { f64::from(weight) / total as f64 };
                let view = |backend: &super::WeightedBackend| {
                    view_backend(
                        &backend.label,
                        backend.weight,
                        share(backend.weight),
                        backend.problem.as_ref().map(|(_, message)| message.clone()),
                    )
                };
                backends.iter().map(view).collect()
            }
            None if rule.filters.iter().any(|filter| matches!(filter, Filter::Redirect(_))) => vec![],
            // To the parent itself, whichever it is.
            None => {
                let accepted = self.parents.iter().filter_map(|parent| {
                    let port = parent.ports.first()?;
                    Some(format!("{}/{}:{port}", parent.namespace, parent.written.name))
                });
                accepted.take(1).map(|name| view_backend(&name, 1, 1.0, None)).collect()
            }
        };
        let mut policies = vec![];
        policies.extend(
            rule.request_timeout.flatten().map(|limit| format!("request {}", duration::words(limit))),
        );
        policies.extend(rule.try_timeout.map(|limit| format!("each try {}", duration::words(limit))));
        policies.extend(rule.retry.iter().flatten().map(retry));
        let matches: Vec<String> = rule.matches.iter().map(matching).collect();
        route::Rule {
            matches: matches.join(" or "),
            filters: rule.filters.iter().flat_map(filter).collect(),
            policies,
            backends,
        }
    }

    /// What keeps this route, or a part of it, from taking effect; `true` for an error.
    pub fn findings(&self) -> Vec<(bool, String)> {
        let mut findings = vec![];
        for parent in &self.parents {
            for condition in &parent.conditions {
                match (condition.kind.as_str(), condition.status) {
                    ("Accepted", false) | ("ResolvedRefs", false) => {
                        findings.push((true, format!("{}: {}", condition.reason, condition.message)));
                    }
                    ("PartiallyInvalid", true) => findings.push((true, condition.message.clone())),
                    _ => {}
                }
            }
        }
        findings.extend(self.remarks.iter().map(|remark| (false, remark.clone())));
        findings.sort();
        findings.dedup();
        findings
    }
}

fn view_backend(name: &str, weight: u32, wanted: f64, problem: Option<String>) -> route::Backend {
    route::Backend { name: name.into(), weight, wanted, observed: None, golden: Golden::default(), problem }
}

fn retry(retry: &Retry) -> String {
    let on = match &retry.on {
        RetryOn::Statuses(ranges) => {
            let word = |(low, high): &(u16, u16)| match (low, high) {
                (500, 599) => "5xx".to_owned(),
                (low, high) if low == high => low.to_string(),
                (low, high) => format!("{low}-{high}"),
            };
            ranges.iter().map(word).collect::<Vec<_>>()
        }
        RetryOn::Grpc(conditions) => {
            conditions.iter().map(|condition| format!("{condition:?}").to_lowercase()).collect()
        }
    };
    format!("retry {} × on {}", retry.limit, on.join(", "))
}

fn matching(own: &Match) -> String {
    match own {
        Match::Http(own) => http(own),
        Match::Grpc(own) => {
            let mut words = match (own.service.as_str(), own.method.as_str()) {
                ("", "") => vec![],
                (service, "") => vec![format!("service {service}")],
                ("", method) => vec![format!("method {method}")],
                (service, method) => vec![format!("{service}/{method}")],
            };
            words.extend(own.headers.iter().map(|header| named("header", header)));
            join(words)
        }
    }
}

fn http(own: &HttpMatch) -> String {
    let mut words = match &own.path {
        PathMatch::Prefix(prefix) if prefix == "/" => vec![],
        PathMatch::Prefix(prefix) => vec![format!("path under {prefix}")],
        PathMatch::Exact(path) => vec![format!("path {path}")],
        PathMatch::Regex(pattern) => vec![format!("path like {pattern}")],
    };
    words.extend(own.method.iter().map(|method| format!("method {method}")));
    words.extend(own.headers.iter().map(|header| named("header", header)));
    words.extend(own.query.iter().map(|query| named("query", query)));
    join(words)
}

fn join(words: Vec<String>) -> String {
    if words.is_empty() { "every request".into() } else { words.join(" and ") }
}

fn named(what: &str, own: &NamedMatch) -> String {
    match &own.value {
        ValueMatch::Exact(value) => format!("{what} {} = {value}", own.name),
        ValueMatch::Regex(pattern) => format!("{what} {} like {pattern}", own.name),
    }
}

fn filter(filter: &Filter) -> Vec<String> {
    match filter {
        Filter::RequestHeaders(modifier) => modify("", modifier),
        Filter::ResponseHeaders(modifier) => modify("response ", modifier),
        Filter::Redirect(redirect) => {
            let scheme = redirect.scheme.as_ref().map(|scheme| format!("{scheme}://")).unwrap_or_default();
            let host = redirect.host.clone().unwrap_or_else(|| "the same host".into());
            vec![format!("redirect {} to {scheme}{host}", redirect.status)]
        }
        Filter::Fail { status, message } => vec![format!("fail with {status}: {message}")],
    }
}

fn modify(what: &str, modifier: &HeaderModifier) -> Vec<String> {
    let set = modifier.set.iter().map(|(name, value)| format!("set {what}header {name} = {value}"));
    let add = modifier.add.iter().map(|(name, value)| format!("add {what}header {name} = {value}"));
    let remove = modifier.remove.iter().map(|name| format!("remove {what}header {name}"));
    set.chain(add).chain(remove).collect()
}
