//! `mesh policy`: exactly what a proxy would be told, as JSON. The first place to look when traffic goes elsewhere than expected.

use super::print_json;
use crate::{
    api::Client,
    arguments::{PolicyDirection, PolicyOptions, PolicyOutput},
    place,
};

pub async fn run(api: &Client, options: PolicyOptions) -> anyhow::Result<()> {
    let PolicyOptions { direction, output: PolicyOutput::Json } = options;
    let policy: serde_json::Value = match &direction {
        PolicyDirection::Outbound { authority, from } => {
            let from = from.as_deref().unwrap_or_else(|| namespace_of(authority));
            api.get("/api/v1/policy", &[("outbound", Some(authority)), ("from", Some(from))]).await?
        }
        PolicyDirection::Inbound { pod, namespace } => {
            let pod = place::full("Pod", pod, namespace.as_deref(), api)?;
            api.get("/api/v1/policy", &[("inbound", Some(&pod))]).await?
        }
    };
    print_json(&policy)
}

/// `bookinfo` of `reviews.bookinfo:9080`. Who is not named is taken for a neighbour of the Service.
fn namespace_of(authority: &str) -> &str {
    let host = authority.split(':').next().unwrap_or(authority);
    host.split('.').nth(1).unwrap_or("default")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_name_holds_its_namespace() {
        assert_eq!(namespace_of("reviews.bookinfo:9080"), "bookinfo");
        assert_eq!(namespace_of("reviews.bookinfo.svc.cluster.local:9080"), "bookinfo");
        assert_eq!(namespace_of("reviews"), "default");
    }
}
