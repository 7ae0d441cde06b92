//! Where policy comes from, as messages and as labels.

use linkerd2_proxy_api::meta::{Metadata, Resource, metadata::Kind};
use mesh_policy::Meta;
use std::collections::HashMap;

pub fn metadata(meta: &Meta) -> Metadata {
    Metadata {
        kind: Some(match meta {
            Meta::Default(name) => Kind::Default((*name).into()),
            Meta::Resource(resource) => Kind::Resource(Resource {
                group: resource.group.into(),
                kind: resource.kind.into(),
                name: resource.name.clone(),
                namespace: resource.namespace.clone(),
                section: String::new(),
                port: resource.port.unwrap_or(0).into(),
            }),
        }),
    }
}

/// Metadata of one of a route's rules. Where there are several, the section names it as `rule-1`, `rule-2`, ….
pub fn of_rule(meta: &Meta, index: usize, rules: usize) -> Metadata {
    let mut metadata = metadata(meta);
    if let (Some(Kind::Resource(resource)), true) = (&mut metadata.kind, rules > 1) {
        resource.section = format!("rule-{}", index + 1);
    }
    metadata
}

/// Inbound policy says it by labels, too.
pub fn labels(meta: &Meta) -> HashMap<String, String> {
    let pairs = match meta {
        Meta::Default(name) => vec![("group", ""), ("kind", "default"), ("name", name)],
        Meta::Resource(resource) => vec![
            ("group", resource.group),
            ("kind", resource.kind),
            ("namespace", resource.namespace.as_str()),
            ("name", resource.name.as_str()),
        ],
    };
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
