//! `mesh endpoints`: where a proxy would send requests for a Service.

use super::{print_json, print_table};
use crate::{
    api::Client,
    arguments::{EndpointsOptions, Output},
    table::{Table, dash},
};
use anyhow::bail;
use mesh_api::endpoints::EndpointList;

pub async fn run(api: &Client, options: EndpointsOptions) -> anyhow::Result<()> {
    let mut lists: Vec<EndpointList> = vec![];
    for authority in &options.authorities {
        let list: EndpointList = api.get("/api/v1/endpoints", &[("authority", Some(authority))]).await?;
        if !list.exists {
            bail!("{authority}: no Service with that name and port (want name.namespace:port)");
        }
        lists.push(list);
    }
    if options.output == Output::Json {
        return print_json(&lists);
    }
    let mut table = Table::new(&["SERVICE", "ADDRESS", "POD", "WORKLOAD", "ZONE", "PROTOCOL", "IDENTITY"]);
    for list in &lists {
        for endpoint in &list.endpoints {
            table.row(vec![
                list.authority.clone(),
                endpoint.addr.clone(),
                endpoint.pod.clone(),
                endpoint.workload.clone(),
                endpoint.zone.clone().unwrap_or_else(dash),
                endpoint.protocol_hint.clone(),
                endpoint.identity.clone().unwrap_or_else(|| "none: plaintext".into()),
            ]);
        }
    }
    print_table(&table, "no endpoints: no ready Pod matches the Service's selector");
    Ok(())
}
