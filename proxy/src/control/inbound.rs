//! Watches the policy of one of the application's ports (`InboundServerPolicies.WatchPort`).

use super::{
    calls::Channel,
    channel::MAX_MESSAGE_BYTES,
    decode,
    watch::{Failure, Subject},
};
use crate::policy::inbound::Policy;
use linkerd2_proxy_api::inbound::{
    PortSpec, Server, inbound_server_policies_client::InboundServerPoliciesClient,
};
use std::{fmt, sync::Arc};
use tonic::{Status, Streaming};

pub struct InboundPolicies {
    client: InboundServerPoliciesClient<Channel>,
    workload: Arc<str>,
    port: u16,
    last: Option<Server>,
}

impl InboundPolicies {
    pub fn new(channel: Channel, workload: Arc<str>, port: u16) -> InboundPolicies {
        let client = InboundServerPoliciesClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        InboundPolicies { client, workload, port, last: None }
    }
}

impl fmt::Display for InboundPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inbound policy of port {}", self.port)
    }
}

impl Subject for InboundPolicies {
    type Message = Server;
    type Value = Arc<Policy>;

    async fn subscribe(&mut self) -> Result<Streaming<Server>, Status> {
        let spec = PortSpec { workload: self.workload.to_string(), port: self.port.into() };
        self.client.watch_port(spec).await.map(tonic::Response::into_inner)
    }

    fn received(&mut self, message: Server, _: &Arc<Policy>) -> Result<Option<Arc<Policy>>, String> {
        if self.last.as_ref() == Some(&message) {
            return Ok(None);
        }
        let policy = decode::inbound::policy(message.clone()).map_err(|invalid| invalid.to_string())?;
        self.last = Some(message);
        Ok(Some(Arc::new(policy)))
    }

    /// The last good policy stays, or the configured default: neither a refusal nor nonsense opens a port.
    fn failed(&self, _: &Failure, _: &Arc<Policy>) -> Option<Arc<Policy>> {
        None
    }
}
