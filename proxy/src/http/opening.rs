//! The beginning of every request, inbound and outbound: stored once, checked, and freed of what belongs to its connection.

use super::{
    body::{Progress, RequestBody},
    check::{self, Seen},
    error::{Dialect, Kind},
    gate,
    hop::{self, Asks},
};
use http::Request;
use hyper::body::Incoming;
use std::{rc::Rc, time::Instant};

/// A request's arrival, as all that happens to it later refers to.
#[derive(Debug)]
pub struct Arrival {
    pub start: Instant,
    pub dialect: Dialect,
    /// Of its body, where it has one.
    pub progress: Option<Rc<Progress>>,
}

impl Arrival {
    /// The request cannot be answered because its body is broken.
    pub fn is_broken(&self) -> bool {
        self.progress.as_ref().is_some_and(|progress| progress.is_broken())
    }

    /// The client has nothing more to say.
    pub fn is_whole(&self) -> bool {
        self.progress.as_ref().is_none_or(|progress| progress.is_whole())
    }
}

pub fn receive(req: Request<Incoming>) -> (Request<RequestBody>, Arrival) {
    let (start, dialect) = (Instant::now(), Dialect::of(&req));
    let (head, body) = req.into_parts();
    let (body, progress) = RequestBody::incoming(body);
    (Request::from_parts(head, body), Arrival { start, dialect, progress })
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
