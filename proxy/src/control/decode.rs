//! Wire types stop here: linkerd2-proxy-api messages in, checked `policy` types out. Pure. Whatever a message lacks or says
//! wrongly is an `Invalid` that names the field; the caller then keeps what it had.

mod backend;
pub mod endpoint;
#[cfg(test)]
pub mod fixture;
mod http;
pub mod inbound;
pub mod outbound;
#[cfg(test)]
mod tests;

use crate::policy::Meta;
use linkerd2_proxy_api::meta;
use std::{sync::Arc, time::Duration};

/// Why a message makes no sense: the path of the field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}{separator}{reason}", separator = if .path.is_empty() { "" } else { ": " })]
pub struct Invalid {
    path: String,
    reason: String,
}

type Result<T> = std::result::Result<T, Invalid>;

impl Invalid {
    fn new(reason: impl Into<String>) -> Invalid {
        Invalid { path: String::new(), reason: reason.into() }
    }

    fn missing(field: &str) -> Invalid {
        Invalid::new("missing").at(field)
    }

    /// The same, one level further out.
    fn at(mut self, field: impl std::fmt::Display) -> Invalid {
        self.path = match self.path.as_str() {
            "" => field.to_string(),
            inner => format!("{field}.{inner}"),
        };
        self
    }
}

/// A field that must be there.
fn required<T>(field: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Invalid::missing(field))
}

/// Decodes every element, or says which one is wrong.
fn each<T, U>(field: &str, values: Vec<T>, mut decode: impl FnMut(T) -> Result<U>) -> Result<Vec<U>> {
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| decode(value).map_err(|invalid| invalid.at(format_args!("{field}[{index}]"))))
        .collect()
}

fn meta(metadata: Option<meta::Metadata>) -> Result<Meta> {
    match required("metadata", metadata.and_then(|metadata| metadata.kind))? {
        meta::metadata::Kind::Default(name) => Ok(default_meta(&name)),
        meta::metadata::Kind::Resource(resource) => Ok(Meta {
            group: resource.group.into(),
            kind: resource.kind.into(),
            namespace: resource.namespace.into(),
            name: resource.name.into(),
            port: optional_port(resource.port).map_err(|invalid| invalid.at("metadata.port"))?,
            section: resource.section.into(),
        }),
    }
}

/// What no object stands behind.
pub fn default_meta(name: &str) -> Meta {
    let empty: Arc<str> = Arc::from("");
    Meta {
        group: empty.clone(),
        kind: "default".into(),
        namespace: empty.clone(),
        name: name.into(),
        port: None,
        section: empty,
    }
}

/// Zero is "unset" on the wire.
fn optional_port(port: u32) -> Result<Option<u16>> {
    match u16::try_from(port) {
        Ok(0) => Ok(None),
        Ok(port) => Ok(Some(port)),
        Err(_) => Err(Invalid::new(format!("{port} is not a port"))),
    }
}

fn duration(field: &str, value: Option<prost_types::Duration>) -> Result<Duration> {
    let value = required(field, value)?;
    Duration::try_from(value).map_err(|_| Invalid::new("not a positive duration").at(field))
}

/// A time limit: absent and zero both mean that there is none (Gateway API).
fn limit(field: &str, value: Option<prost_types::Duration>) -> Result<Option<Duration>> {
    let Some(value) = value else { return Ok(None) };
    duration(field, Some(value)).map(|limit| Some(limit).filter(|limit| !limit.is_zero()))
}
