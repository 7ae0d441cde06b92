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

/// Nobody tells when a name that only DNS knows moves, and the system's resolver does not say how long its answer holds:
/// so it is asked again after this long.
const RESOLVE_AGAIN: Duration = Duration::from_secs(10);
/// The same after it had no answer.
const RESOLVE_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Destination {
    pub target: Target,
    state: RefCell<State>,
    changed: Notify,
    started: Instant,
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
            started: Instant::now(),
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
            let mut place = Place::default();
            loop {
                let now = lookup.borrow_and_update().clone();
                let (Some(outbound), Some(destination)) = (outbound.upgrade(), weak.upgrade()) else {
                    return;
                };
                let ask_again = match (now, &target) {
                    (Lookup::Unknown, Target::Authority(name)) => {
                        let answer = outbound.resolve(name, host.as_ref()).await;
                        let ask_again = if answer.is_ok() { RESOLVE_AGAIN } else { RESOLVE_RETRY };
                        if let Some(moved) = place.told(answer) {
                            destination
                                .set(moved.map_or_else(State::Refused, |addr| outbound.passthrough(addr)));
                        }
                        Some(ask_again)
                    }
                    (now, _) => {
                        place = Place::default();
                        destination.set(outbound.state(now, &target));
                        None
                    }
                };
                drop((outbound, destination));
                let changed = match ask_again {
                    None => lookup.changed().await,
                    Some(after) => time::timeout(after, lookup.changed()).await.unwrap_or(Ok(())),
                };
                if changed.is_err() {
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

    /// What requests go by now; the first answer is waited for, for so long after somebody has first wanted it.
    pub async fn router(&self, patience: Duration) -> Result<Rc<Router>, Kind> {
        if let Some(ready) = self.ready() {
            return ready;
        }
        // Boxed: only a destination's first requests wait.
        Box::pin(self.first(patience)).await
    }

    async fn first(&self, patience: Duration) -> Result<Rc<Router>, Kind> {
        let deadline = self.started + patience;
        loop {
            let changed = self.changed.notified();
            if let Some(ready) = self.ready() {
                return ready;
            }
            if time::timeout_at(deadline, changed).await.is_err() {
                return self.ready().unwrap_or(Err(Kind::Undiscovered));
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

/// Where a name leads, as far as DNS has said.
#[derive(Debug, Default)]
struct Place(Option<SocketAddr>);

impl Place {
    /// What changes by an answer. An address that is still one of several is kept, and so is the last one while there is no
    /// answer.
    fn told(&mut self, answer: Result<Vec<SocketAddr>, Kind>) -> Option<Result<SocketAddr, Kind>> {
        match (answer, self.0) {
            (Ok(addrs), Some(now)) if addrs.contains(&now) => None,
            (Ok(addrs), _) => {
                self.0 = addrs.first().copied();
                Some(self.0.ok_or(Kind::Dns))
            }
            (Err(_), Some(_)) => None,
            (Err(kind), None) => Some(Err(kind)),
        }
    }
}

impl Outbound {
    fn state(self: &Rc<Self>, lookup: Lookup, target: &Target) -> State {
        match (lookup, target) {
            (Lookup::Pending, _) => State::Pending,
            (Lookup::Policy(policy), _) => State::Router(Rc::new(Router::new(self, policy))),
            (Lookup::Invalid(reason), _) => {
                tracing::warn!(?target, %reason, "no policy for this destination");
                State::Refused(Kind::Policy)
            }
            (Lookup::Unknown, Target::Addr(addr)) => self.passthrough(*addr),
            // Names are resolved before.
            (Lookup::Unknown, Target::Authority(_)) => State::Refused(Kind::Dns),
        }
    }

    /// To an address that the mesh does not know.
    fn passthrough(self: &Rc<Self>, addr: SocketAddr) -> State {
        match self.is_own(addr) {
            true => State::Refused(Kind::Loop),
            false => State::Router(Rc::new(Router::passthrough(self, unmeshed(addr)))),
        }
    }

    /// The addresses of a name that the mesh does not know; never none.
    async fn resolve(&self, name: &str, host: Option<&(Arc<str>, u16)>) -> Result<Vec<SocketAddr>, Kind> {
        let (host, port) = match host {
            Some((host, port)) => (&**host, *port),
            None => name
                .rsplit_once(':')
                .and_then(|(host, port)| Some((host, port.parse().ok()?)))
                .ok_or(Kind::Dns)?,
        };
        match time::timeout(self.patience(), lookup_host((host, port))).await {
            Ok(Ok(addrs)) => {
                Some(addrs.collect::<Vec<_>>()).filter(|addrs| !addrs.is_empty()).ok_or(Kind::Dns)
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Row R35.
    #[test]
    fn a_name_is_followed_when_it_moves_and_kept_while_dns_is_away() {
        let [a, b, c] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"].map(|addr| addr.parse().unwrap());
        let mut place = Place::default();
        for (answer, change, why) in [
            (Err(Kind::Dns), Some(Err(Kind::Dns)), "nothing is known yet"),
            (Ok(vec![a, b]), Some(Ok(a)), "the first"),
            (Ok(vec![b, a]), None, "in another order"),
            (Err(Kind::Dns), None, "away"),
            (Ok(vec![b, c]), Some(Ok(b)), "moved"),
        ] {
            assert_eq!(place.told(answer), change, "{why}");
        }
    }
}
