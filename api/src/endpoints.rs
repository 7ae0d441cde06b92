//! What a proxy would be told: `GET /api/v1/endpoints?authority=name.ns:port` and
//! `GET /api/v1/policy?outbound=name.ns:port&from=ns/pod` or `?inbound=ns/pod:port` (the answer to the second is plain JSON).

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointList {
    /// In full, with the Service's domain.
    pub authority: String,
    /// Whether the Service exists and has that port.
    pub exists: bool,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub addr: String,
    /// Empty, as all below, of an address outside of the mesh and of a Pod that one may not see.
    pub pod: String,
    pub workload: String,
    pub zone: Option<String>,
    /// The identity that the client demands; `None` means plaintext.
    pub identity: Option<String>,
    pub protocol_hint: String,
}
