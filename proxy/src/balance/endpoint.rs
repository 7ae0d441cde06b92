//! One endpoint: its connections, and what has been learnt of it.

use super::{
    CONNECT_BACKOFF,
    accrual::{self, Breaker},
    load::Load,
};
use crate::{
    http::{
        Version,
        client::{Connector, Lease, Pool, Target},
        error::Kind,
    },
    policy::{self, endpoint::ProtocolHint, outbound::FailureAccrual},
};
use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};
use tokio::time::Instant;

const DECAY: Duration = Duration::from_secs(10);
/// As what a failure counts among response times, and a wait that was given up at most.
const FAILURE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Endpoint {
    /// Of this endpoint only, as long as the worker lives: an address may come back as another endpoint.
    pub id: u64,
    pub info: Arc<policy::endpoint::Endpoint>,
    pub pool: Rc<Pool>,
    load: Load,
    breaker: Option<Breaker>,
    /// Connects that failed in a row, when the next may be tried, and why the last failed.
    connect_failures: Cell<u32>,
    /// When the last of them was counted.
    failed_at: Cell<Option<Instant>>,
    down: Cell<Option<(Instant, Kind)>>,
}

impl Endpoint {
    pub fn new(
        info: Arc<policy::endpoint::Endpoint>,
        connector: Rc<Connector>,
        accrual: Option<FailureAccrual>,
    ) -> Rc<Endpoint> {
        let target =
            Target { addr: info.addr, tls: info.tls.clone(), transport_port: info.opaque_transport_port };
        thread_local! { static NEXT: Cell<u64> = const { Cell::new(0) } }
        let id = NEXT.get();
        NEXT.set(id + 1);
        Rc::new(Endpoint {
            id,
            load: Load::new(info.weight, DECAY),
            pool: Pool::new(target, connector),
            breaker: accrual.map(Breaker::new),
            connect_failures: Cell::new(0),
            failed_at: Cell::new(None),
            down: Cell::new(None),
            info,
        })
    }

    /// When it may be used again; `None`: now.
    pub fn ready_at(&self, now: Instant) -> Option<Instant> {
        let down = self.down_at(now).map(|(until, _)| until);
        let open = self.breaker.as_ref().and_then(|breaker| breaker.ready_at(now));
        down.max(open)
    }

    /// The same when no endpoint is ready: one that can be reached but keeps failing is asked again now and then.
    pub fn panic_at(&self, now: Instant) -> Option<Instant> {
        let down = self.down_at(now).map(|(until, _)| until);
        down.max(self.breaker.as_ref().and_then(|breaker| breaker.panic_at(now)))
    }

    /// Rests after a failed connect: until when, and why it failed.
    fn down_at(&self, now: Instant) -> Option<(Instant, Kind)> {
        self.down.get().filter(|(until, _)| *until > now)
    }

    /// Rests because it could not prove its identity. Once is not enough: a handshake breaks off where a proxy is just ending, too.
    pub fn is_impostor(&self, now: Instant) -> bool {
        matches!(self.down_at(now), Some((_, Kind::Tls))) && self.connect_failures.get() > 1
    }

    pub fn load(&self, now: Instant) -> f64 {
        self.load.get(now)
    }

    /// What is spoken with it for a request that came in `version`; the flag: HTTP/1 carried in HTTP/2.
    pub fn wire(&self, version: Version, upgrade: bool) -> (Version, bool) {
        let carries = self.info.tls.is_some() && self.info.hint == ProtocolHint::Http2;
        match version {
            Version::Http1 if carries && !upgrade => (Version::Http2, true),
            Version::Http1 | Version::Http2 => (version, false),
        }
    }

    /// A request is sent to it.
    pub fn begin(self: &Rc<Self>) -> Attempt {
        let start = Instant::now();
        self.load.begin();
        let probes = self.breaker.as_ref().is_some_and(|breaker| breaker.begin(start));
        Attempt { endpoint: self.clone(), start, probes, lease: None, answered: false }
    }

    /// Of all that were under way together, the first is counted: many wait for one handshake, and a moment of absence is one.
    pub fn connect_failed(&self, began: Instant, now: Instant, why: Kind) {
        if self.failed_at.get().is_some_and(|counted| began <= counted) {
            return;
        }
        self.failed_at.set(Some(now));
        let n = self.connect_failures.get();
        self.connect_failures.set(n.saturating_add(1));
        self.down.set(Some((now + accrual::step(CONNECT_BACKOFF, n, fastrand::f32()), why)));
    }

    pub fn connect_succeeded(&self) {
        self.connect_failures.set(0);
        self.down.set(None);
    }
}

/// One try of a request at one endpoint, until its response has ended.
#[derive(Debug)]
pub struct Attempt {
    endpoint: Rc<Endpoint>,
    start: Instant,
    /// The endpoint was set aside, and this finds out whether it has recovered.
    probes: bool,
    lease: Option<Lease>,
    answered: bool,
}

impl Attempt {
    pub fn start(&self) -> Instant {
        self.start
    }

    pub fn endpoint(&self) -> &Rc<Endpoint> {
        &self.endpoint
    }

    /// The response's head is here.
    pub fn answered(&mut self, lease: Lease) {
        let now = Instant::now();
        self.endpoint.load.observe(now - self.start, now);
        if self.endpoint.connect_failures.get() > 0 {
            self.endpoint.connect_succeeded();
        }
        (self.lease, self.answered) = (Some(lease), true);
    }

    /// It is a connection, and there: how long it lasts says nothing of the endpoint.
    pub fn connected(&mut self) {
        self.answered = true;
    }

    /// The response has ended; `failed`: it says that the server failed.
    pub fn complete(self, failed: bool) {
        let Some(breaker) = &self.endpoint.breaker else { return };
        match failed {
            true => breaker.failure(Instant::now(), self.probes),
            false => breaker.success(self.probes),
        }
    }

    /// There was no response, or not all of it.
    pub fn fail(mut self) {
        let now = Instant::now();
        // So that an endpoint that fails quickly does not look like a quick one.
        self.endpoint.load.observe(FAILURE, now);
        if let Some(breaker) = &self.endpoint.breaker {
            breaker.failure(now, self.probes);
        }
        if let Some(lease) = self.lease.take() {
            lease.discard();
        }
    }

    /// The response may be used, its connection not again: where it ends is anyone's guess.
    pub fn spoil_connection(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.spoil();
        }
    }

    /// The response is not HTTP's idea of one: its connection is of no more use.
    pub fn discard_connection(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.discard();
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.endpoint.load.end();
        if !self.answered {
            // Nobody wanted to wait any longer: an endpoint that hangs must not look as if it had not been measured.
            let now = Instant::now();
            self.endpoint.load.observe_at_least((now - self.start).min(FAILURE), now);
        }
    }
}
