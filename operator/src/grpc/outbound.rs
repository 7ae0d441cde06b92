//! `OutboundPolicies`: where a proxy's application may go.

use super::{
    encode, method,
    topics::{Question, Topics},
    workload::Workload,
};
use crate::rate::Peer;
use axum::Router;
use bytes::Bytes;
use linkerd2_proxy_api::outbound::{TrafficSpec, traffic_spec::Target as ApiTarget};
use mesh_policy::{
    Authority, AuthorityError, Tables,
    outbound::{Policy, Target},
};
use std::net::SocketAddr;
use tonic::{Request, Status};

const GET: &str = "/io.linkerd.proxy.outbound.OutboundPolicies/Get";
const WATCH: &str = "/io.linkerd.proxy.outbound.OutboundPolicies/Watch";

pub fn routes(policies: Topics<Outbound>) -> Router {
    let ours = policies.clone();
    let get = move |request: Request<TrafficSpec>| {
        let question = Outbound::parse(request.into_inner(), &ours.now())?;
        ours.ask(&question, &())
    };
    let watch = move |request: Request<TrafficSpec>| {
        let peer = Peer::of(&request);
        let question = Outbound::parse(request.into_inner(), &policies.now())?;
        policies.watch(peer, &question, |_| ((), true))
    };
    method::unary(GET, get).merge(method::streaming(WATCH, watch))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outbound {
    target: Target,
    from_namespace: String,
}

impl Outbound {
    fn parse(spec: TrafficSpec, tables: &Tables) -> Result<Outbound, Status> {
        let source = Workload::parse(&spec.source_workload)?;
        let target = match spec.target.ok_or_else(|| Status::invalid_argument("target is missing"))? {
            // The conversion below would take 65536 for 0.
            ApiTarget::Addr(addr) if addr.port > u16::MAX.into() => {
                return Err(Status::invalid_argument(format!("target port {} is none", addr.port)));
            }
            ApiTarget::Addr(addr) => {
                let addr = SocketAddr::try_from(addr)
                    .map_err(|_| Status::invalid_argument("target address is not valid"))?;
                Target::Addr(addr)
            }
            ApiTarget::Authority(text) => {
                match Authority::parse(&text, &tables.settings().cluster_domain) {
                    Ok(authority) => Target::Authority(authority),
                    Err(AuthorityError::Address(addr)) => Target::Addr(addr),
                    // A name of some other domain: not ours to say anything about.
                    Err(error @ AuthorityError::Foreign(..)) => {
                        return Err(Status::not_found(error.to_string()));
                    }
                    Err(error) => return Err(Status::invalid_argument(error.to_string())),
                }
            }
        };
        if matches!(target, Target::Addr(addr) if addr.port() == 0) {
            return Err(Status::invalid_argument("target port is 0"));
        }
        Ok(Outbound { target, from_namespace: source.ns })
    }
}

impl Question for Outbound {
    type Answer = Policy;
    type Listener = ();

    fn service(&self) -> Option<(&str, &str)> {
        self.target.endpoints_of()
    }

    fn is_unchanged(&self, before: &Tables, now: &Tables) -> bool {
        now.has_same_outbound(before, &self.target)
    }

    fn answer(&self, tables: &Tables) -> Result<Policy, Status> {
        let policy = tables.outbound(&self.target, &self.from_namespace);
        policy.ok_or_else(|| Status::not_found("no such Service"))
    }

    fn step(_: Option<&Policy>, now: &Policy, _: &()) -> Bytes {
        encode::wire(&[encode::outbound::policy(now)])
    }
}
