//! Policy as a pure function: Kubernetes objects in ([`World`]), what proxies are told and what people are shown out
//! ([`Tables`]). No clock, no I/O, no async, no protobuf; the operator watches objects and encodes answers.

pub mod authorization;
mod diagnostic;
mod duration;
mod endpoints;
pub mod gateway;
mod identity;
pub mod inbound;
mod meta;
pub mod namespaces;
pub mod outbound;
pub mod pod;
mod pods;
mod ports;
mod reach;
mod routes;
mod selector;
mod services;
mod tables;
mod world;

pub use diagnostic::{Diagnostic, Severity};
pub use duration::gateway as parse_duration;
pub use endpoints::{Endpoint, EndpointSet, ProtocolHint};
pub use identity::Identities;
pub use inbound::{DefaultPolicy, faults};
pub use meta::{Meta, Resource};
pub use pod::Pod;
pub use pods::{PodInfo, Probe};
pub use ports::PortSet;
pub use reach::{Place, Prefer, Reach, ZONE};
pub use services::{Authority, AuthorityError, PortProtocol, Service, ServiceKind, ServicePort};
pub use tables::{PolicyStatus, RouteStatus, Tables};
pub use world::{List, Origin, Settings, World};

#[cfg(test)]
mod tests;
