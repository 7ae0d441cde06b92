//! `InboundServerPolicies`: who may call a Pod's port.

use super::{
    encode,
    stream::{Answers, Watcher},
    workload::Workload,
};
use crate::rate::Peer;
use linkerd2_proxy_api::inbound::{PortSpec, Server, inbound_server_policies_server::InboundServerPolicies};
use mesh_policy::Tables;
use tonic::{Request, Response, Status, async_trait};

#[derive(Clone, Debug)]
pub struct Policies(pub Watcher);

fn question(spec: &PortSpec) -> Result<impl Fn(&Tables) -> Result<Server, Status> + Send + 'static, Status> {
    let workload = Workload::parse(&spec.workload)?;
    if workload.pod.is_empty() {
        return Err(Status::invalid_argument("workload names no pod"));
    }
    let port = u16::try_from(spec.port).ok().filter(|port| *port > 0);
    let port = port
        .ok_or_else(|| Status::invalid_argument(format!("port {} is none (want 1 to 65535)", spec.port)))?;
    Ok(move |tables: &Tables| match tables.inbound(&workload.ns, &workload.pod, port) {
        Some(policy) => Ok(encode::inbound::server(&policy)),
        None => Err(Status::not_found(format!("no Pod {}/{}", workload.ns, workload.pod))),
    })
}

#[async_trait]
impl InboundServerPolicies for Policies {
    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        let answer = question(request.get_ref())?;
        answer(&self.0.now()).map(Response::new)
    }

    type WatchPortStream = Answers<Server>;

    async fn watch_port(
        &self,
        request: Request<PortSpec>,
    ) -> Result<Response<Self::WatchPortStream>, Status> {
        let answer = question(request.get_ref())?;
        self.0.watch(Peer::of(&request), answer).map(Response::new)
    }
}
