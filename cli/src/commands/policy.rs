//! `mesh policy`: exactly what a proxy would be told, as JSON. The first place to look when traffic goes elsewhere than expected.

use super::print_json;
use crate::{
    api::Client,
    arguments::{PolicyDirection, PolicyOptions},
};

pub async fn run(api: &Client, PolicyOptions { direction }: PolicyOptions) -> anyhow::Result<()> {
    let policy: serde_json::Value = match &direction {
        PolicyDirection::Outbound { authority, from } => {
            api.get("/api/v1/policy", &[("outbound", Some(authority)), ("from", from.as_deref())]).await?
        }
        PolicyDirection::Inbound { pod } => api.get("/api/v1/policy", &[("inbound", Some(pod))]).await?,
    };
    print_json(&policy)
}
