//! Our operator before a proxy that is not ours: what the published API promises to every proxy.

mod destination;
mod identity;
mod inbound;
mod outbound;
mod streams;
mod validate;
