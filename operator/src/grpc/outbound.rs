//! `OutboundPolicies`: where a proxy's application may go.

use super::{
    encode,
    stream::{Answers, Watcher},
    workload::Workload,
};
use crate::rate::Peer;
use linkerd2_proxy_api::outbound::{
    OutboundPolicy, TrafficSpec, outbound_policies_server::OutboundPolicies,
    traffic_spec::Target as ApiTarget,
};
use mesh_policy::{Authority, AuthorityError, Tables, outbound::Target};
use std::net::SocketAddr;
use tonic::{Request, Response, Status, async_trait};

#[derive(Clone, Debug)]
pub struct Policies(pub Watcher);

impl Policies {
    /// Reads a question and returns what answers it from any tables.
    fn question(
        &self,
        spec: TrafficSpec,
    ) -> Result<impl Fn(&Tables) -> Result<OutboundPolicy, Status> + Send + 'static, Status> {
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
                let tables = self.0.now();
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
        Ok(move |tables: &Tables| match tables.outbound(&target, &source.ns) {
            Some(policy) => Ok(encode::outbound::policy(&policy)),
            None => Err(Status::not_found("no such Service")),
        })
    }
}

#[async_trait]
impl OutboundPolicies for Policies {
    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        let answer = self.question(request.into_inner())?;
        answer(&self.0.now()).map(Response::new)
    }

    type WatchStream = Answers<OutboundPolicy>;

    async fn watch(&self, request: Request<TrafficSpec>) -> Result<Response<Self::WatchStream>, Status> {
        let peer = Peer::of(&request);
        let answer = self.question(request.into_inner())?;
        self.0.watch(peer, answer).map(Response::new)
    }
}
