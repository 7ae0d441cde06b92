//! Watches the policy of a target (`OutboundPolicies.Watch`).

use super::{
    calls::Channel,
    channel::MAX_MESSAGE_BYTES,
    decode,
    watch::{Failure, Subject},
};
use crate::policy::outbound::{Lookup, Target};
use linkerd2_proxy_api::outbound::{
    OutboundPolicy, TrafficSpec, outbound_policies_client::OutboundPoliciesClient, traffic_spec,
};
use std::{fmt, sync::Arc};
use tonic::{Status, Streaming};

pub struct OutboundPolicies {
    client: OutboundPoliciesClient<Channel>,
    workload: Arc<str>,
    target: Target,
    /// The message that the current policy was made of: an operator that restarts says the same again, and nobody needs to know.
    last: Option<OutboundPolicy>,
}

impl OutboundPolicies {
    pub fn new(channel: Channel, workload: Arc<str>, target: Target) -> OutboundPolicies {
        let client = OutboundPoliciesClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        OutboundPolicies { client, workload, target, last: None }
    }
}

impl fmt::Display for OutboundPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Addr(addr) => write!(f, "outbound policy of {addr}"),
            Target::Authority(authority) => write!(f, "outbound policy of {authority}"),
        }
    }
}

impl Subject for OutboundPolicies {
    type Message = OutboundPolicy;
    type Value = Lookup;

    async fn subscribe(&mut self) -> Result<Streaming<OutboundPolicy>, Status> {
        let target = match &self.target {
            Target::Addr(addr) => traffic_spec::Target::Addr((*addr).into()),
            Target::Authority(authority) => traffic_spec::Target::Authority(authority.to_string()),
        };
        let spec = TrafficSpec { source_workload: self.workload.to_string(), target: Some(target) };
        self.client.watch(spec).await.map(tonic::Response::into_inner)
    }

    fn received(&mut self, message: OutboundPolicy, now: &Lookup) -> Result<Option<Lookup>, String> {
        if matches!(now, Lookup::Policy(_)) && self.last.as_ref() == Some(&message) {
            return Ok(None);
        }
        let policy = decode::outbound::policy(message.clone()).map_err(|invalid| invalid.to_string())?;
        self.last = Some(message);
        Ok(Some(Lookup::Policy(Arc::new(policy))))
    }

    fn failed(&self, failure: &Failure, now: &Lookup) -> Option<Lookup> {
        match (failure, now) {
            (Failure::NotFound, Lookup::Unknown) => None,
            (Failure::NotFound, _) => Some(Lookup::Unknown),
            // What was meshed does not become plaintext because something else answers in the operator's place.
            (Failure::Unsupported, Lookup::Policy(_) | Lookup::Unknown) => None,
            (Failure::Unsupported, Lookup::Pending | Lookup::Invalid(_)) => Some(Lookup::Unknown),
            (Failure::Refused(reason), _) => Some(Lookup::Invalid(reason.as_str().into())),
            (Failure::Nonsense(_), Lookup::Policy(_) | Lookup::Unknown) => None,
            (Failure::Nonsense(reason), Lookup::Pending | Lookup::Invalid(_)) => {
                Some(Lookup::Invalid(format!("invalid client policy configuration: {reason}").into()))
            }
        }
    }
}
