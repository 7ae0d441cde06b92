//! Watches the endpoints of a destination (`Destination.Get`).

use super::{
    calls::Channel,
    channel::MAX_MESSAGE_BYTES,
    decode,
    watch::{Failure, Subject},
};
use crate::policy::endpoint::{Endpoint, Endpoints};
use linkerd2_proxy_api::destination::{
    GetDestination, Update, WeightedAddrSet, destination_client::DestinationClient, update,
};
use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc};
use tonic::{Status, Streaming};
use tracing::warn;

type Set = BTreeMap<SocketAddr, Arc<Endpoint>>;

pub struct Destination {
    client: DestinationClient<Channel>,
    context: Arc<str>,
    path: Arc<str>,
    /// The current stream has not told the whole set yet; what is known is from an earlier one.
    fresh: bool,
}

impl Destination {
    pub fn new(channel: Channel, context: Arc<str>, path: Arc<str>) -> Destination {
        let client = DestinationClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Destination { client, context, path, fresh: true }
    }

    /// The first `add` of a stream is the whole set, later ones change it.
    fn add(&mut self, added: WeightedAddrSet, now: &Endpoints) -> Result<Option<Endpoints>, String> {
        let known = known(now);
        let told = added.addrs.len();
        let mut set = if self.fresh { Set::new() } else { known.clone() };
        let mut invalid = None;
        let mut usable = 0;
        for addr in added.addrs {
            match decode::endpoint::endpoint(addr, &added.metric_labels) {
                Ok(endpoint) => {
                    usable += 1;
                    let addr = endpoint.addr;
                    // Unchanged endpoints stay the same object, and so keep their connections.
                    let unchanged = known.get(&addr).filter(|known| ***known == endpoint);
                    set.insert(addr, unchanged.cloned().unwrap_or_else(|| Arc::new(endpoint)));
                }
                Err(reason) => {
                    warn!(watch = %self, %reason, "endpoint left out");
                    invalid = Some(reason);
                }
            }
        }
        match invalid {
            Some(reason) if usable == 0 => return Err(reason.to_string()),
            // Only `no_endpoints` says that there are none: an empty set is what a control plane says that knows nothing yet.
            None if told == 0 && self.fresh && !known.is_empty() => return Ok(None),
            Some(_) | None => {}
        }
        self.fresh = false;
        Ok(changed(set, now))
    }
}

fn known(now: &Endpoints) -> &Set {
    static NONE: Set = Set::new();
    match now {
        Endpoints::Known(set) => set,
        Endpoints::Pending | Endpoints::Gone | Endpoints::Invalid(_) => &NONE,
    }
}

fn changed(set: Set, now: &Endpoints) -> Option<Endpoints> {
    match now {
        Endpoints::Known(known) if **known == set => None,
        Endpoints::Known(_) | Endpoints::Pending | Endpoints::Gone | Endpoints::Invalid(_) => {
            Some(Endpoints::Known(Arc::new(set)))
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoints of {}", self.path)
    }
}

impl Subject for Destination {
    type Message = Update;
    type Value = Endpoints;

    async fn subscribe(&mut self) -> Result<Streaming<Update>, Status> {
        self.fresh = true;
        let request = GetDestination {
            scheme: "k8s".to_owned(),
            path: self.path.to_string(),
            context_token: self.context.to_string(),
        };
        self.client.get(request).await.map(tonic::Response::into_inner)
    }

    fn received(&mut self, message: Update, now: &Endpoints) -> Result<Option<Endpoints>, String> {
        match message.update {
            Some(update::Update::Add(added)) => self.add(added, now),
            Some(update::Update::Remove(_)) if self.fresh => Ok(None),
            Some(update::Update::Remove(removed)) => {
                let mut set = known(now).clone();
                for addr in removed.addrs {
                    set.remove(&decode::endpoint::address(addr).map_err(|invalid| invalid.to_string())?);
                }
                Ok(changed(set, now))
            }
            Some(update::Update::NoEndpoints(none)) => {
                self.fresh = false;
                Ok(match (none.exists, now) {
                    (true, now) => changed(Set::new(), now),
                    (false, Endpoints::Gone) => None,
                    (false, _) => Some(Endpoints::Gone),
                })
            }
            None => Err("update: missing".to_owned()),
        }
    }

    fn failed(&self, failure: &Failure, now: &Endpoints) -> Option<Endpoints> {
        match (failure, now) {
            (Failure::NotFound | Failure::Unsupported, Endpoints::Pending) => Some(Endpoints::Gone),
            (Failure::NotFound | Failure::Unsupported, _) => None,
            (Failure::Refused(reason), _) => Some(Endpoints::Invalid(reason.as_str().into())),
            (Failure::Nonsense(reason), Endpoints::Pending) => {
                Some(Endpoints::Invalid(reason.as_str().into()))
            }
            (Failure::Nonsense(_), Endpoints::Known(_) | Endpoints::Gone | Endpoints::Invalid(_)) => None,
        }
    }
}
