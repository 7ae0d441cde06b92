//! One of the application's ports: follows its policy, and holds the routes made of it.

use super::{
    authorize::{self, Peer},
    limit::Limits,
};
use crate::{
    control::Discovery,
    http::route::Table,
    policy::{
        Meta,
        inbound::{Authorization, HttpRoute, Policy, Protocol},
    },
    task::Owned,
    telemetry::{
        Worker,
        metrics::{authz::AuthzLabels, labels::InboundLabels, route::InboundRouteMetrics},
    },
};
use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, futures::Notified},
    time::{self, Instant},
};

#[derive(Debug)]
pub struct Port {
    pub number: u16,
    policy: RefCell<Rc<PortPolicy>>,
    changed: Notify,
    used: Cell<Instant>,
    /// Somebody tells us of changes. Where too many ports are watched, nobody does, and what is assumed is not to stay.
    pub is_followed: bool,
    follower: OnceCell<Owned>,
}

/// A policy with its routes sorted. Compared by address: another one is another `Rc`.
#[derive(Debug)]
pub struct PortPolicy {
    pub policy: Arc<Policy>,
    pub table: Table,
    pub limits: Option<Limits>,
    /// A route changes requests or answers them.
    pub filters: bool,
    /// By route; the last is for requests without one.
    metrics: Vec<Rc<InboundRouteMetrics>>,
}

/// A port that the workload does not declare is asked about when somebody connects to it. What is assumed until the answer is there
/// may refuse whom policy allows, so the answer is waited for, if not for long.
const PATIENCE: Duration = Duration::from_secs(1);

impl Port {
    pub(super) async fn start(number: u16, discovery: &Discovery, worker: &Worker) -> Rc<Port> {
        let mut policies = discovery.inbound(number).await;
        let _ = time::timeout(PATIENCE, policies.wait_for(|policy| !policy.assumed)).await;
        let is_followed = policies.has_changed().is_ok();
        let first = policies.borrow_and_update().clone();
        let port = Rc::new(Port {
            number,
            policy: RefCell::new(Rc::new(PortPolicy::new(first, worker))),
            changed: Notify::new(),
            used: Cell::new(Instant::now()),
            is_followed,
            follower: OnceCell::new(),
        });
        let (weak, worker) = (Rc::downgrade(&port), worker.clone());
        let follower = Owned::spawn(async move {
            while policies.changed().await.is_ok() {
                let Some(port) = weak.upgrade() else { return };
                *port.policy.borrow_mut() =
                    Rc::new(PortPolicy::new(policies.borrow_and_update().clone(), &worker));
                port.changed.notify_waiters();
            }
        });
        let _ = port.follower.set(follower);
        port
    }

    pub fn policy(&self) -> Rc<PortPolicy> {
        self.policy.borrow().clone()
    }

    /// Returns when the policy does not allow this client's connection any more.
    pub async fn denied(&self, peer: &Peer) {
        loop {
            let changed = self.changed();
            if authorize::connection(&self.policy().policy, peer).is_none() {
                return;
            }
            changed.await;
        }
    }

    /// Returns at the next change of the policy after this call.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    pub fn touch(&self) {
        self.used.set(Instant::now());
    }

    pub fn idle_for(&self, max: Duration) -> bool {
        self.used.get().elapsed() > max
    }
}

impl PortPolicy {
    fn new(policy: Arc<Policy>, worker: &Worker) -> PortPolicy {
        let routes = routes(&policy);
        let metas = routes.iter().map(|route| Some(&route.meta)).chain([None]);
        let metrics = metas.map(|route| worker.inbound_route(&policy.meta, route)).collect();
        let matches = routes.iter().map(|route| {
            (route.hosts.as_slice(), route.rules.iter().map(|rule| rule.matches.as_slice()).collect())
        });
        let everything: (&[_], _) = (&[], vec![&[][..]]);
        // No route at all is as good as the default route (proxy-api).
        let table = if routes.is_empty() { Table::new([everything]) } else { Table::new(matches) };
        PortPolicy {
            table,
            filters: routes.iter().flat_map(|route| &route.rules).any(|rule| !rule.filters.is_empty()),
            limits: policy.rate_limit.as_ref().map(|limit| Limits::new(limit, Instant::now())),
            metrics,
            policy,
        }
    }

    pub fn routes(&self) -> &[HttpRoute] {
        routes(&self.policy)
    }

    pub fn metrics(&self, route: Option<usize>) -> &Rc<InboundRouteMetrics> {
        let last = self.metrics.len() - 1;
        &self.metrics[route.map_or(last, |at| at.min(last))]
    }

    pub fn takes_http(&self) -> bool {
        !matches!(self.policy.protocol, Protocol::Opaque | Protocol::Tls)
    }

    pub fn labels<'a>(
        &'a self,
        peer: &Peer,
        port: u16,
        route: Option<&'a Meta>,
        allowed: Option<&'a Authorization>,
    ) -> InboundLabels<'a> {
        InboundLabels {
            tls: peer.tls.clone(),
            client_ip: peer.ip,
            dst_port: port,
            srv: Some(&self.policy.meta),
            route,
            authz: allowed.map(|authorization| &authorization.meta),
        }
    }

    pub fn authz_labels<'a>(
        &'a self,
        peer: &Peer,
        port: u16,
        route: Option<&'a Meta>,
        allowed: Option<&'a Authorization>,
    ) -> AuthzLabels<'a> {
        AuthzLabels {
            traffic: self.labels(peer, port, route, allowed),
            audit: allowed.is_some_and(|authorization| authorization.audit),
        }
    }
}

fn routes(policy: &Policy) -> &[HttpRoute] {
    match &policy.protocol {
        Protocol::Detect { routes, .. }
        | Protocol::Http1(routes)
        | Protocol::Http2(routes)
        | Protocol::Grpc(routes) => routes,
        Protocol::Opaque | Protocol::Tls => &[],
    }
}
