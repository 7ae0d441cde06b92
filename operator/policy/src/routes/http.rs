//! One rule of an HTTPRoute: valid as a whole, or dropped with a reason.

use super::{
    Rule, backends, filters,
    options::{BACKOFF, Options},
};
use crate::{
    duration,
    gateway::{HttpMatch, HttpRule, NamedMatch, Retry},
    outbound::{self, Filter, Match, PathMatch, RetryOn, ValueMatch},
    services::Services,
    world::Settings,
};
use std::time::Duration;

pub fn rule(
    rule: &HttpRule,
    namespace: &str,
    options: &Options,
    services: &Services,
    settings: &Settings,
) -> Result<Rule, String> {
    if rule.matches.len() > 64 {
        return Err("a rule has at most 64 matches".into());
    }
    let mut matches = rule.matches.iter().map(one_match).collect::<Result<Vec<_>, _>>()?;
    if matches.is_empty() {
        matches.push(everything());
    }
    let filters = filters::http(&rule.filters)?;
    let redirects = filters.iter().any(|filter| matches!(filter, Filter::Redirect(_)));
    if redirects && !rule.backend_refs.is_empty() {
        return Err("a rule that redirects has no backendRefs".into());
    }
    let replaces_prefix = filters.iter().any(|filter| {
        matches!(filter, Filter::Redirect(redirect) if matches!(redirect.path, Some(outbound::PathModifier::Prefix(_))))
    });
    if replaces_prefix && !matches!(matches[..], [outbound::HttpMatch { path: PathMatch::Prefix(_), .. }]) {
        return Err("ReplacePrefixMatch needs exactly one match, of type PathPrefix".into());
    }
    let limit = |text: &Option<String>| text.as_deref().map(duration::limit).transpose();
    let written = rule.timeouts.as_ref();
    let request = written.map_or(Ok(None), |written| limit(&written.request));
    let request = request.map_err(|reason| format!("timeouts.request: {reason}"))?;
    let request_timeout = request.or(options.request_timeout);
    let try_timeout = written.map_or(Ok(None), |written| limit(&written.backend_request));
    let try_timeout = try_timeout.map_err(|reason| format!("timeouts.backendRequest: {reason}"))?.flatten();
    if let (Some(Some(request)), Some(try_)) = (request_timeout, try_timeout)
        && try_ > request
    {
        return Err("timeouts.backendRequest is longer than timeouts.request".into());
    }
    let retry = match &rule.retry {
        Some(written) => Some(retry(written, try_timeout)?),
        None => options.http_retry.clone(),
    };
    Ok(Rule {
        matches: matches.into_iter().map(Match::Http).collect(),
        filters,
        backends: backends::resolve(&rule.backend_refs, namespace, services, settings, filters::http)?,
        request_timeout,
        try_timeout,
        retry,
    })
}

pub fn everything() -> outbound::HttpMatch {
    outbound::HttpMatch { path: PathMatch::Prefix("/".into()), headers: vec![], query: vec![], method: None }
}

fn one_match(written: &HttpMatch) -> Result<outbound::HttpMatch, String> {
    let mut read = everything();
    if let Some(path) = &written.path {
        let value = path.value.clone().unwrap_or_else(|| "/".into());
        if path.kind.as_deref() != Some("RegularExpression") {
            check_path(&value)?;
        }
        read.path = match path.kind.as_deref() {
            None | Some("PathPrefix") => PathMatch::Prefix(value),
            Some("Exact") => PathMatch::Exact(value),
            Some("RegularExpression") => PathMatch::Regex(regex(value)?),
            Some(other) => return Err(format!("path match type {other:?} is unknown")),
        };
    }
    read.headers = headers(&written.headers)?;
    for query in &written.query_params {
        if query.name.is_empty() {
            return Err("a query parameter match has no name".into());
        }
        // The first entry for a name counts, as for headers.
        if !read.query.iter().any(|own| own.name == query.name) {
            read.query.push(outbound::NamedMatch { name: query.name.clone(), value: value(query)? });
        }
    }
    const METHODS: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    if let Some(method) = &written.method
        && !METHODS.contains(&method.as_str())
    {
        return Err(format!("method {method:?} is unknown"));
    }
    read.method = written.method.clone();
    Ok(read)
}

fn check_path(path: &str) -> Result<(), String> {
    let odd = ["//", "/./", "/../", "%2f", "%2F", "#"].iter().find(|part| path.contains(**part));
    if !path.starts_with('/') || path.len() > 1_024 || path.bytes().any(|b| b.is_ascii_control()) {
        return Err(format!("path {path:?} is not valid (want one that starts with /)"));
    }
    match odd {
        Some(part) => Err(format!("path {path:?} contains {part:?}")),
        None => Ok(()),
    }
}

pub fn headers(written: &[NamedMatch]) -> Result<Vec<outbound::NamedMatch>, String> {
    let mut read: Vec<outbound::NamedMatch> = vec![];
    for header in written {
        let name = filters::header_name(&header.name)?;
        if !read.iter().any(|own| own.name == name) {
            read.push(outbound::NamedMatch { name, value: value(header)? });
        }
    }
    Ok(read)
}

fn value(written: &NamedMatch) -> Result<ValueMatch, String> {
    match written.kind.as_deref() {
        None | Some("Exact") => Ok(ValueMatch::Exact(written.value.clone())),
        Some("RegularExpression") => regex(written.value.clone()).map(ValueMatch::Regex),
        Some(other) => Err(format!("match type {other:?} of {:?} is unknown", written.name)),
    }
}

/// Bounds what a pattern can cost the proxies: its own length and the size of its program.
fn regex(pattern: String) -> Result<String, String> {
    if pattern.len() > 1_024 {
        return Err("a regular expression has at most 1024 bytes".into());
    }
    // The whole of a text has to match, which is how proxies read it: what does not bear the brackets would be refused there.
    match regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(64 << 10).build() {
        Ok(_) => Ok(pattern),
        Err(regex::Error::CompiledTooBig(_)) => Err(format!("regular expression {pattern:?} is too costly")),
        Err(_) => Err(format!("{pattern:?} is no regular expression")),
    }
}

fn retry(written: &Retry, try_timeout: Option<Duration>) -> Result<Option<outbound::Retry>, String> {
    let limit = written.attempts.unwrap_or(1);
    let Some(limit) = u32::try_from(limit).ok().filter(|limit| *limit <= 100) else {
        return Err(format!("retry.attempts {limit} is not a number from 0 to 100"));
    };
    let mut statuses = vec![];
    for code in &written.codes {
        let status = u16::try_from(*code).ok().filter(|code| (400..600).contains(code));
        let status = status.ok_or_else(|| format!("retry.codes: {code} is not a status from 400 to 599"))?;
        statuses.push((status, status));
    }
    if statuses.is_empty() {
        // Without codes: what says that the backend could not answer.
        statuses.push((502, 504));
    }
    let backoff = written
        .backoff
        .as_deref()
        .map(duration::gateway)
        .transpose()
        .map_err(|reason| format!("retry.backoff: {reason}"))?;
    Ok((limit > 0).then_some(outbound::Retry {
        limit,
        on: RetryOn::Statuses(statuses),
        timeout: try_timeout,
        backoff: backoff.filter(|backoff| !backoff.is_zero()).unwrap_or(BACKOFF),
    }))
}
