//! The beginning of every request, inbound and outbound: stored once, checked, and freed of what belongs to its connection.

use super::{
    body::{ClientFault, RequestBody},
    check::{self, Seen},
    error::{Dialect, Kind},
    gate,
    hop::{self, Asks},
};
use http::Request;
use hyper::body::Incoming;
use std::time::Instant;

/// A request's arrival, as all that happens to it later refers to.
#[derive(Debug)]
pub struct Arrival {
    pub start: Instant,
    pub dialect: Dialect,
    pub fault: ClientFault,
}

pub fn receive(req: Request<Incoming>) -> (Request<RequestBody>, Arrival) {
    let (start, dialect) = (Instant::now(), Dialect::of(&req));
    let (head, body) = req.into_parts();
    let (body, fault) = RequestBody::incoming(body);
    (Request::from_parts(head, body), Arrival { start, dialect, fault })
}

/// Refuses what two parsers could read differently; takes off what is for one connection only, and the mesh's own headers.
pub fn admit(req: &mut Request<RequestBody>) -> Result<(Seen, Asks), Kind> {
    if let Some(kind) = gate::refusal(req) {
        return Err(kind);
    }
    let seen = check::request(req)?;
    let asks = hop::request(req, &seen)?;
    if seen.reserved {
        check::remove_reserved(req.headers_mut());
    }
    Ok((seen, asks))
}
