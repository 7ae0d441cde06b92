//! One destination of the application's: follows what the control plane says of it, and holds the router made of that.

use super::{Outbound, router::Router};
use crate::{
    http::error::Kind,
    policy::{
        endpoint::{Endpoint, ProtocolHint},
        outbound::{Lookup, Target},
    },
    task::Owned,
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::lookup_host,
    sync::Notify,
    time::{self, Instant},
};

#[derive(Debug)]
pub struct Destination {
    pub target: Target,
    state: RefCell<State>,
    changed: Notify,
    used: Cell<Instant>,
    follower: OnceCell<Owned>,
}

#[derive(Clone, Debug)]
enum State {
    Pending,
    Router(Rc<Router>),
    Refused(Kind),
}

impl Destination {
    /// `host`: name and port as the client wrote them, for a target that only DNS knows.
    pub(super) fn start(
        outbound: &Rc<Outbound>,
        target: Target,
        host: Option<(Arc<str>, u16)>,
    ) -> Rc<Destination> {
        let destination = Rc::new(Destination {
            target: target.clone(),
            state: RefCell::new(State::Pending),
            changed: Notify::new(),
            used: Cell::new(Instant::now()),
            follower: OnceCell::new(),
        });
        let (weak, outbound) = (Rc::downgrade(&destination), Rc::downgrade(outbound));
        let follower = Owned::spawn(async move {
            let discovery = match outbound.upgrade() {
                Some(outbound) => outbound.control.discovery.clone(),
                None => return,
            };
            let mut lookup = discovery.outbound(target.clone()).await;
            loop {
                let now = lookup.borrow_and_update().clone();
                let (Some(outbound), Some(destination)) = (outbound.upgrade(), weak.upgrade()) else {
                    return;
                };
                let state = outbound.state(now, &target, host.as_ref()).await;
                destination.set(state);
                drop((outbound, destination));
                if lookup.changed().await.is_err() {
                    return;
                }
            }
        });
        let _ = destination.follower.set(follower);
        destination
    }

    fn set(&self, state: State) {
        *self.state.borrow_mut() = state;
        self.changed.notify_waiters();
    }

    /// What requests go by now; waits for the first answer.
    pub async fn router(&self, patience: Duration) -> Result<Rc<Router>, Kind> {
        if let Some(ready) = self.ready() {
            return ready;
        }
        // Boxed: only a destination's first requests wait.
        Box::pin(self.first(patience)).await
    }

    async fn first(&self, patience: Duration) -> Result<Rc<Router>, Kind> {
        let deadline = Instant::now() + patience;
        loop {
            let changed = self.changed.notified();
            if let Some(ready) = self.ready() {
                return ready;
            }
            if time::timeout_at(deadline, changed).await.is_err() {
                return self.ready().unwrap_or(Err(Kind::FailFast));
            }
        }
    }

    fn ready(&self) -> Option<Result<Rc<Router>, Kind>> {
        match &*self.state.borrow() {
            State::Pending => None,
            State::Router(router) => Some(Ok(router.clone())),
            State::Refused(kind) => Some(Err(*kind)),
        }
    }

    pub fn touch(&self) {
        self.used.set(Instant::now());
    }

    pub fn idle_for(&self, max: Duration) -> bool {
        self.used.get().elapsed() > max
    }
}

impl Outbound {
    async fn state(
        self: &Rc<Self>,
        lookup: Lookup,
        target: &Target,
        host: Option<&(Arc<str>, u16)>,
    ) -> State {
        match lookup {
            Lookup::Pending => State::Pending,
            Lookup::Policy(policy) => State::Router(Rc::new(Router::new(self, policy))),
            Lookup::Invalid(reason) => {
                tracing::warn!(?target, %reason, "no policy for this destination");
                State::Refused(Kind::Policy)
            }
            Lookup::Unknown => match self.resolve(target, host).await {
                Ok(addr) if self.is_own(addr) => State::Refused(Kind::Loop),
                Ok(addr) => State::Router(Rc::new(Router::passthrough(self, unmeshed(addr)))),
                Err(kind) => State::Refused(kind),
            },
        }
    }

    /// The address of a target that the mesh does not know.
    async fn resolve(&self, target: &Target, host: Option<&(Arc<str>, u16)>) -> Result<SocketAddr, Kind> {
        let Target::Authority(name) = target else {
            let Target::Addr(addr) = target else { return Err(Kind::Dns) };
            return Ok(*addr);
        };
        let (host, port) = match host {
            Some((host, port)) => (&**host, *port),
            None => name
                .rsplit_once(':')
                .and_then(|(host, port)| Some((host, port.parse().ok()?)))
                .ok_or(Kind::Dns)?,
        };
        match time::timeout(self.patience(), lookup_host((host, port))).await {
            Ok(Ok(mut addrs)) => addrs.next().ok_or(Kind::Dns),
            Ok(Err(error)) => {
                tracing::debug!(host, %error, "DNS");
                Err(Kind::Dns)
            }
            Err(_) => Err(Kind::Dns),
        }
    }
}

fn unmeshed(addr: SocketAddr) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        addr,
        weight: 10_000,
        tls: None,
        hint: ProtocolHint::None,
        opaque_transport_port: None,
        labels: Arc::new([]),
    })
}
