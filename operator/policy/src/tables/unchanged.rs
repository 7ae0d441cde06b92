//! Which answers are certainly what they were in the tables before. These look at what the two share, not at what they say, so that
//! asking about every answer after each change costs little. Where they cannot tell, they say no.

use super::Tables;
use crate::{
    Authority,
    endpoints::{self, Whose},
    outbound::Target,
};
use std::{net::IpAddr, ptr, sync::Arc};

impl Tables {
    /// Whether nothing that people write has changed, and no Pod.
    pub fn differs_in_endpoints_only(&self, before: &Tables) -> bool {
        Arc::ptr_eq(&self.world.namespaces, &before.world.namespaces)
            && Arc::ptr_eq(&self.pods, &before.pods)
            && Arc::ptr_eq(&self.services, &before.services)
            && Arc::ptr_eq(&self.authorizations, &before.authorizations)
            && Arc::ptr_eq(&self.diagnostics, &before.diagnostics)
    }

    /// The Services, as `(namespace, name)`, whose endpoints may have changed, where certainly nothing else has. `None` where it may have,
    /// or where there were tables between.
    pub fn moved_since(&self, before: &Tables) -> Option<Vec<&(String, String)>> {
        if !self.differs_in_endpoints_only(before) {
            return None;
        }
        match Arc::ptr_eq(&self.slices, &before.slices) {
            true => Some(vec![]),
            false => Some(self.slices.moved_since(&before.slices)?.iter().collect()),
        }
    }

    /// Of [`Tables::resolve`], [`Tables::reach`] and [`Tables::hints_at`], whoever asks.
    pub fn has_same_endpoints(&self, before: &Tables, authority: &Authority) -> bool {
        let Authority { namespace, service, .. } = authority;
        if !Arc::ptr_eq(&self.services, &before.services)
            && !same(self.shared_service(namespace, service), before.shared_service(namespace, service))
        {
            return false;
        }
        if !self.slices.shares(&before.slices, namespace, service) {
            return false;
        }
        if !self.services.shares_opaque_ports(&before.services) {
            return false;
        }
        if Arc::ptr_eq(&self.pods, &before.pods) {
            return true;
        }
        let mut endpoints = self.slices.of(namespace, service).iter().flat_map(|slice| &slice.endpoints);
        endpoints.all(|endpoint| {
            let Some(ip) = endpoints::address(endpoint) else { return true };
            let whose = |tables: &Tables| match tables.whose(namespace, endpoint, ip) {
                Whose::Pod(pod) => Some(Arc::as_ptr(pod)),
                Whose::Nobody => Some(ptr::null()),
                Whose::Unknown => None,
            };
            whose(self) == whose(before)
        })
    }

    /// Of [`Tables::outbound`] from any namespace, of [`Tables::endpoint_at`] and [`Tables::is_conflicting`].
    pub fn has_same_outbound(&self, before: &Tables, target: &Target) -> bool {
        if !Arc::ptr_eq(&self.services, &before.services) || !Arc::ptr_eq(&self.routes, &before.routes) {
            return false;
        }
        match target {
            Target::Addr(addr) => self.has_same_pod_at(before, addr.ip()),
            Target::Authority(authority) if authority.host.is_some() => {
                self.has_same_endpoints(before, authority)
            }
            Target::Authority(_) => true,
        }
    }

    /// Of [`Tables::inbound`] of any port.
    pub fn has_same_inbound(&self, before: &Tables, namespace: &str, pod: &str) -> bool {
        if !Arc::ptr_eq(&self.services, &before.services)
            || !Arc::ptr_eq(&self.authorizations, &before.authorizations)
        {
            return false;
        }
        Arc::ptr_eq(&self.pods, &before.pods)
            || same(self.starting_pod(namespace, pod), before.starting_pod(namespace, pod))
    }

    fn has_same_pod_at(&self, before: &Tables, ip: IpAddr) -> bool {
        let (now, before) = (&self.pods.by_ip, &before.pods.by_ip);
        match (now.get(&ip), before.get(&ip)) {
            (Some(now), Some(before)) => same(now.as_ref(), before.as_ref()),
            (now, before) => now.is_none() && before.is_none(),
        }
    }
}

fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}
