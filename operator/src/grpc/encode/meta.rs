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
