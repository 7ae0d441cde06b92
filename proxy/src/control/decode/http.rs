//! What HTTP and gRPC routes of both directions have in common: matches and filters.

use super::{Invalid, Result, each, required};
use crate::policy::http::{
    Filter, HeaderMatch, HeaderModifier, HostMatch, PathMatch, PathModifier, QueryMatch, Ratio, Redirect,
    RequestMatch, ValueMatch,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, uri::Scheme};
use linkerd2_proxy_api::{grpc_route, http_route, http_types};

/// Compiled regular expressions may not be larger than this: routes come from users.
const REGEX_BYTES: usize = 1 << 20;

/// No match at all matches everything.
pub fn matches(matches: Vec<http_route::HttpRouteMatch>) -> Result<Vec<RequestMatch>> {
    if matches.is_empty() {
        return Ok(vec![RequestMatch::default()]);
    }
    each("matches", matches, |rule| {
        Ok(RequestMatch {
            path: rule.path.map(path).transpose()?.unwrap_or_default(),
            method: rule
                .method
                .map(|method| {
                    Method::try_from(method).map_err(|error| Invalid::new(error.to_string()).at("method"))
                })
                .transpose()?,
            headers: each("headers", rule.headers, header)?,
            query: each("query_params", rule.query_params, query)?,
        })
    })
}

/// gRPC matches are matches of the path `/service/method`.
pub fn rpc_matches(matches: Vec<grpc_route::GrpcRouteMatch>) -> Result<Vec<RequestMatch>> {
    if matches.is_empty() {
        return Ok(vec![RequestMatch::default()]);
    }
    each("matches", matches, |rule| {
        let path = rule.rpc.map(|rpc| match (rpc.service.as_str(), rpc.method.as_str()) {
            ("", "") => Ok(PathMatch::default()),
            (service, "") => Ok(PathMatch::Prefix(format!("/{service}"))),
            ("", method) => path_regex(&format!("/[^/]+/{}", regex::escape(method))),
            (service, method) => Ok(PathMatch::Exact(format!("/{service}/{method}"))),
        });
        Ok(RequestMatch {
            path: path.transpose()?.unwrap_or_default(),
            method: None,
            headers: each("headers", rule.headers, header)?,
            query: vec![],
        })
    })
}

pub fn hosts(hosts: Vec<http_route::HostMatch>) -> Result<Vec<HostMatch>> {
    each("hosts", hosts, |host| match required("match", host.r#match)? {
        http_route::host_match::Match::Exact(name) => Ok(HostMatch::Exact(name.to_ascii_lowercase())),
        http_route::host_match::Match::Suffix(suffix) => {
            if suffix.reverse_labels.is_empty() {
                return Err(Invalid::missing("suffix"));
            }
            let labels: Vec<&str> = suffix.reverse_labels.iter().rev().map(String::as_str).collect();
            Ok(HostMatch::Suffix(labels.join(".").to_ascii_lowercase()))
        }
    })
}

fn path(path: http_route::PathMatch) -> Result<PathMatch> {
    let absolute = |path: String| {
        if path.starts_with('/') {
            Ok(path)
        } else {
            Err(Invalid::new(format!("{path:?} does not start with /")))
        }
    };
    let decoded = match required("kind", path.kind) {
        Ok(http_route::path_match::Kind::Exact(path)) => absolute(path).map(PathMatch::Exact),
        Ok(http_route::path_match::Kind::Prefix(path)) => absolute(path).map(PathMatch::Prefix),
        Ok(http_route::path_match::Kind::Regex(pattern)) => path_regex(&pattern),
        Err(missing) => Err(missing),
    };
    decoded.map_err(|invalid| invalid.at("path"))
}

fn path_regex(pattern: &str) -> Result<PathMatch> {
    regex::RegexBuilder::new(&anchored(pattern))
        .size_limit(REGEX_BYTES)
        .build()
        .map(PathMatch::Regex)
        .map_err(|error| bad_regex(pattern, &error))
}

fn value_regex(pattern: &str) -> Result<ValueMatch> {
    regex::bytes::RegexBuilder::new(&anchored(pattern))
        .size_limit(REGEX_BYTES)
        .build()
        .map(ValueMatch::Regex)
        .map_err(|error| bad_regex(pattern, &error))
}

fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

fn bad_regex(pattern: &str, error: &regex::Error) -> Invalid {
    match error {
        regex::Error::CompiledTooBig(_) => {
            Invalid::new(format!("regular expression {pattern:?} is too large"))
        }
        _ => Invalid::new(format!("{pattern:?} is not a regular expression")),
    }
}

fn header(header: http_route::HeaderMatch) -> Result<HeaderMatch> {
    let value = match required("value", header.value)? {
        http_route::header_match::Value::Exact(bytes) => ValueMatch::Exact(bytes),
        http_route::header_match::Value::Regex(pattern) => value_regex(&pattern)?,
    };
    Ok(HeaderMatch { name: header_name(&header.name)?, value })
}

fn query(query: http_route::QueryParamMatch) -> Result<QueryMatch> {
    let value = match required("value", query.value)? {
        http_route::query_param_match::Value::Exact(text) => ValueMatch::Exact(text.into_bytes()),
        http_route::query_param_match::Value::Regex(pattern) => value_regex(&pattern)?,
    };
    if query.name.is_empty() {
        return Err(Invalid::missing("name"));
    }
    Ok(QueryMatch { name: query.name, value })
}

fn header_name(name: &str) -> Result<HeaderName> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Invalid::new(format!("{name:?} is not a header name")))
}

pub fn fail_http(injector: http_route::HttpFailureInjector) -> Result<Filter> {
    Ok(Filter::FailHttp {
        status: status(injector.status)?,
        message: injector.message.into(),
        ratio: ratio(injector.ratio)?,
    })
}

pub fn fail_grpc(injector: grpc_route::GrpcFailureInjector) -> Result<Filter> {
    Ok(Filter::FailGrpc {
        code: u16::try_from(injector.code)
            .map_err(|_| Invalid::new(format!("{} is not a gRPC code", injector.code)))?,
        message: injector.message.into(),
        ratio: ratio(injector.ratio)?,
    })
}

fn status(status: u32) -> Result<StatusCode> {
    u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| Invalid::new(format!("{status} is not an HTTP status")))
}

/// All requests, unless a ratio says otherwise.
fn ratio(ratio: Option<http_route::Ratio>) -> Result<Ratio> {
    match ratio {
        None => Ok(Ratio { numerator: 1, denominator: 1 }),
        Some(http_route::Ratio { denominator: 0, .. }) => Err(Invalid::new("denominator is 0").at("ratio")),
        Some(http_route::Ratio { numerator, denominator }) => Ok(Ratio { numerator, denominator }),
    }
}

pub fn request_headers(modifier: http_route::RequestHeaderModifier) -> Result<Filter> {
    modify(modifier.set, modifier.add, modifier.remove).map(Filter::RequestHeaders)
}

pub fn response_headers(modifier: http_route::ResponseHeaderModifier) -> Result<Filter> {
    modify(modifier.set, modifier.add, modifier.remove).map(Filter::ResponseHeaders)
}

fn modify(
    set: Option<http_types::Headers>,
    add: Option<http_types::Headers>,
    remove: Vec<String>,
) -> Result<HeaderModifier> {
    Ok(HeaderModifier {
        set: headers("set", set)?,
        add: headers("add", add)?,
        remove: each("remove", remove, |name| header_name(&name))?,
    })
}

fn headers(field: &str, headers: Option<http_types::Headers>) -> Result<Vec<(HeaderName, HeaderValue)>> {
    each(field, headers.unwrap_or_default().headers, |header| {
        let value = HeaderValue::from_bytes(&header.value)
            .map_err(|_| Invalid::new(format!("value of {:?} is not a header value", header.name)))?;
        Ok((header_name(&header.name)?, value))
    })
}

pub fn redirect(redirect: http_route::RequestRedirect) -> Result<Filter> {
    let path = match redirect.path {
        None => None,
        Some(path) => Some(match required("path.replace", path.replace)? {
            http_route::path_modifier::Replace::Full(path) => PathModifier::ReplaceFull(path),
            http_route::path_modifier::Replace::Prefix(path) => PathModifier::ReplacePrefix(path),
        }),
    };
    let scheme = redirect
        .scheme
        .map(|scheme| Scheme::try_from(scheme).map_err(|error| Invalid::new(error.to_string()).at("scheme")));
    Ok(Filter::Redirect(Redirect {
        scheme: scheme.transpose()?,
        host: Some(redirect.host).filter(|host| !host.is_empty()),
        path,
        port: super::optional_port(redirect.port).map_err(|invalid| invalid.at("port"))?,
        status: match redirect.status {
            0 => StatusCode::MOVED_PERMANENTLY,
            given => status(given)?,
        },
    }))
}
