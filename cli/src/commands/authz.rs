//! `mesh authz`: who may call a workload, and which policy says so.

use super::{print_json, print_table};
use crate::{
    api::Client,
    arguments::{AuthzOptions, Output},
    place,
    table::{Table, dash},
};
use mesh_api::authz::{AuthzList, Verdict};

pub async fn run(api: &Client, options: AuthzOptions) -> anyhow::Result<()> {
    let full = |name: &String| place::full("workload", name, options.namespace.as_deref(), api);
    let (to, from) = (full(&options.to)?, options.from.as_ref().map(full).transpose()?);
    let query = [("to", Some(to.as_str())), ("from", from.as_deref())];
    let list: AuthzList = api.get("/api/v1/authz", &query).await?;
    if options.output == Output::Json {
        return print_json(&list);
    }
    let mut table =
        Table::new(&["SERVER", "PORT", "ROUTE", "CLIENT", "VERDICT", "AUTHORIZATION_POLICY", "WHY"]);
    for row in &list.rows {
        table.row(vec![
            row.server.clone(),
            row.port.to_string(),
            if row.route.is_empty() { dash() } else { row.route.clone() },
            row.client.clone(),
            verdict(row.verdict).into(),
            row.policy.clone(),
            row.why.clone(),
        ]);
    }
    print_table(&table, "nothing to say: the workload has no port");
    Ok(())
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "√ allowed",
        Verdict::Denied => "× denied",
        Verdict::Audited => "‼ audited",
    }
}
