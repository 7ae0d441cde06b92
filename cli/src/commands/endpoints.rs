//! `mesh endpoints`: where a proxy would send requests for a Service.

use super::{print_json, print_table};
use crate::{
    api::Client,
    arguments::{EndpointsOptions, Output},
    table::{Table, dash},
};
use anyhow::ensure;
use mesh_api::endpoints::EndpointList;

pub async fn run(api: &Client, options: EndpointsOptions) -> anyhow::Result<()> {
    let (mut lists, mut failed) = (vec![], 0);
    for authority in &options.authorities {
        match of(api, authority).await {
            Ok(list) => lists.push(list),
            // One that is asked about wrongly takes no answer from the others.
            Err(error) if options.authorities.len() > 1 => {
                eprintln!("mesh: {error:#}");
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    match options.output {
        Output::Json => print_json(&lists)?,
        Output::Table if lists.is_empty() && failed > 0 => {}
        Output::Table => print(&lists),
    }
    ensure!(failed == 0, "{failed} of {} could not be told", options.authorities.len());
    Ok(())
}

async fn of(api: &Client, authority: &String) -> anyhow::Result<EndpointList> {
    let list: EndpointList = api.get("/api/v1/endpoints", &[("authority", Some(authority))]).await?;
    ensure!(list.exists, "{authority}: no Service with that name and port (want name.namespace:port)");
    Ok(list)
}

fn print(lists: &[EndpointList]) {
    let mut table = Table::new(&["SERVICE", "ADDRESS", "POD", "WORKLOAD", "ZONE", "PROTOCOL", "IDENTITY"]);
    for list in lists {
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
}
