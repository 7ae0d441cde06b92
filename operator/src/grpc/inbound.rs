//! `InboundServerPolicies`: who may call a Pod's port.

use super::{
    encode, method,
    topics::{Question, Topics},
    workload::Workload,
};
use crate::rate::Peer;
use axum::Router;
use bytes::Bytes;
use linkerd2_proxy_api::inbound::PortSpec;
use mesh_policy::{Tables, inbound::Policy};
use tonic::{Request, Status};

const GET_PORT: &str = "/io.linkerd.proxy.inbound.InboundServerPolicies/GetPort";
const WATCH_PORT: &str = "/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort";

pub fn routes(policies: Topics<Inbound>) -> Router {
    let ours = policies.clone();
    let get = move |request: Request<PortSpec>| ours.ask(&Inbound::parse(request.get_ref())?, &());
    let watch = move |request: Request<PortSpec>| {
        policies.watch(Peer::of(&request), &Inbound::parse(request.get_ref())?, |_| ((), true))
    };
    method::unary(GET_PORT, get).merge(method::streaming(WATCH_PORT, watch))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inbound {
    namespace: String,
    pod: String,
    port: u16,
}

impl Inbound {
    fn parse(spec: &PortSpec) -> Result<Inbound, Status> {
        let workload = Workload::parse(&spec.workload)?;
        if workload.pod.is_empty() {
            return Err(Status::invalid_argument("workload names no pod"));
        }
        let port = u16::try_from(spec.port).ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| {
            Status::invalid_argument(format!("port {} is none (want 1 to 65535)", spec.port))
        })?;
        Ok(Inbound { namespace: workload.ns, pod: workload.pod, port })
    }
}

impl Question for Inbound {
    type Answer = Policy;
    type Listener = ();

    fn service(&self) -> Option<(&str, &str)> {
        None
    }

    fn is_unchanged(&self, before: &Tables, now: &Tables) -> bool {
        now.has_same_inbound(before, &self.namespace, &self.pod)
    }

    fn answer(&self, tables: &Tables) -> Result<Policy, Status> {
        let policy = tables.inbound(&self.namespace, &self.pod, self.port);
        policy.ok_or_else(|| Status::not_found(format!("no Pod {}/{}", self.namespace, self.pod)))
    }

    fn step(_: Option<&Policy>, now: &Policy, _: &()) -> Bytes {
        encode::wire(&[encode::inbound::server(now)])
    }
}
