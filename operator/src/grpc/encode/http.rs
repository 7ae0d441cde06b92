//! Matches and filters that inbound and outbound messages share.

use linkerd2_proxy_api::{
    grpc_route as grpc, http_route as api,
    http_types::{self, Headers, HttpMethod},
};
use mesh_policy::outbound::{
    GrpcMatch, HeaderModifier, HttpMatch, NamedMatch, PathMatch, PathModifier, Redirect, ValueMatch,
};

pub fn matching(own: &HttpMatch) -> api::HttpRouteMatch {
    api::HttpRouteMatch {
        path: Some(api::PathMatch {
            kind: Some(match &own.path {
                PathMatch::Exact(path) => api::path_match::Kind::Exact(path.clone()),
                PathMatch::Prefix(prefix) => api::path_match::Kind::Prefix(prefix.clone()),
                PathMatch::Regex(pattern) => api::path_match::Kind::Regex(pattern.clone()),
            }),
        }),
        headers: own.headers.iter().map(header).collect(),
        query_params: own.query.iter().map(query).collect(),
        method: own.method.as_deref().map(method),
    }
}

pub fn grpc_matching(own: &GrpcMatch) -> grpc::GrpcRouteMatch {
    grpc::GrpcRouteMatch {
        rpc: Some(grpc::GrpcRpcMatch { service: own.service.clone(), method: own.method.clone() }),
        headers: own.headers.iter().map(header).collect(),
    }
}

fn header(own: &NamedMatch) -> api::HeaderMatch {
    api::HeaderMatch {
        name: own.name.clone(),
        value: Some(match &own.value {
            ValueMatch::Exact(value) => api::header_match::Value::Exact(value.clone().into_bytes()),
            ValueMatch::Regex(pattern) => api::header_match::Value::Regex(pattern.clone()),
        }),
    }
}

fn query(own: &NamedMatch) -> api::QueryParamMatch {
    api::QueryParamMatch {
        name: own.name.clone(),
        value: Some(match &own.value {
            ValueMatch::Exact(value) => api::query_param_match::Value::Exact(value.clone()),
            ValueMatch::Regex(pattern) => api::query_param_match::Value::Regex(pattern.clone()),
        }),
    }
}

fn method(name: &str) -> HttpMethod {
    use http_types::http_method::Type;
    match http::Method::from_bytes(name.as_bytes()) {
        Ok(method) => method.into(),
        Err(_) => HttpMethod { r#type: Some(Type::Unregistered(name.to_owned())) },
    }
}

pub fn request_headers(own: &HeaderModifier) -> api::RequestHeaderModifier {
    api::RequestHeaderModifier { add: headers(&own.add), set: headers(&own.set), remove: own.remove.clone() }
}

pub fn response_headers(own: &HeaderModifier) -> api::ResponseHeaderModifier {
    api::ResponseHeaderModifier { add: headers(&own.add), set: headers(&own.set), remove: own.remove.clone() }
}

fn headers(pairs: &[(String, String)]) -> Option<Headers> {
    let header = |(name, value): &(String, String)| http_types::headers::Header {
        name: name.clone(),
        value: value.clone().into_bytes(),
    };
    Some(Headers { headers: pairs.iter().map(header).collect() })
}

pub fn redirect(own: &Redirect) -> api::RequestRedirect {
    use http_types::scheme::{Registered, Type};
    let scheme = |scheme: &String| {
        let registered = if scheme == "https" { Registered::Https } else { Registered::Http };
        http_types::Scheme { r#type: Some(Type::Registered(registered.into())) }
    };
    api::RequestRedirect {
        scheme: own.scheme.as_ref().map(scheme),
        host: own.host.clone().unwrap_or_default(),
        path: own.path.as_ref().map(|path| api::PathModifier {
            replace: Some(match path {
                PathModifier::Full(full) => api::path_modifier::Replace::Full(full.clone()),
                PathModifier::Prefix(prefix) => api::path_modifier::Replace::Prefix(prefix.clone()),
            }),
        }),
        port: own.port.unwrap_or(0).into(),
        status: own.status.into(),
    }
}

/// For every request.
pub fn always() -> Option<api::Ratio> {
    Some(api::Ratio { numerator: 1, denominator: 1 })
}
