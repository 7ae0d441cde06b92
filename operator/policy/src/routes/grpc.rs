//! One rule of a GRPCRoute: valid as a whole, or dropped with a reason.

use super::{Rule, backends, filters, http, options::Options};
use crate::{
    gateway::GrpcRule,
    outbound::{GrpcMatch, HttpMatch, Match, PathMatch},
    services::Services,
    world::Settings,
};

pub fn rule(
    rule: &GrpcRule,
    namespace: &str,
    options: &Options,
    services: &Services,
    settings: &Settings,
) -> Result<Rule, String> {
    if rule.matches.len() > 64 {
        return Err("a rule has at most 64 matches".into());
    }
    let mut matches = vec![];
    for written in &rule.matches {
        let method = written.method.clone().unwrap_or_default();
        match method.kind.as_deref() {
            None | Some("Exact") => {}
            Some(other) => return Err(format!("method match type {other:?} is not supported (want Exact)")),
        }
        matches.push(GrpcMatch {
            service: identifier(method.service)?,
            method: identifier(method.method)?,
            headers: http::headers(&written.headers)?,
        });
    }
    if matches.is_empty() {
        matches.push(GrpcMatch { service: String::new(), method: String::new(), headers: vec![] });
    }
    Ok(Rule {
        matches: matches.into_iter().map(Match::Grpc).collect(),
        filters: filters::grpc(&rule.filters)?,
        backends: backends::resolve(&rule.backend_refs, namespace, services, settings, filters::grpc)?,
        request_timeout: options.request_timeout,
        try_timeout: None,
        retry: options.grpc_retry.clone(),
    })
}

fn identifier(text: Option<String>) -> Result<String, String> {
    let text = text.unwrap_or_default();
    let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
    if text.bytes().all(valid) && text.len() <= 1_024 {
        Ok(text)
    } else {
        Err(format!("{text:?} is no gRPC name"))
    }
}

/// The same requests as HTTP: `POST /service/method`.
pub fn as_http(own: &GrpcMatch) -> HttpMatch {
    let path = match (own.service.as_str(), own.method.as_str()) {
        ("", "") => PathMatch::Prefix("/".into()),
        (service, "") => PathMatch::Prefix(format!("/{service}")),
        ("", method) => PathMatch::Regex(format!("/[^/]+/{}", regex::escape(method))),
        (service, method) => PathMatch::Exact(format!("/{service}/{method}")),
    };
    HttpMatch { path, headers: own.headers.clone(), query: vec![], method: None }
}
