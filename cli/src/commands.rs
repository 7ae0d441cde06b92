//! One file per command. What asks a running operator fetches one resource and prints it as a table or as the API's own JSON; what
//! installs goes to a cluster's API server.

pub mod authz;
pub mod check;
pub mod dashboard;
pub mod edges;
pub mod endpoints;
pub mod identity;
pub mod inject;
pub mod install;
pub mod policy;
pub mod reference;
pub mod routes;
pub mod stat;
pub mod uninject;
pub mod uninstall;
pub mod upgrade;
mod values;
pub mod version;

use crate::say::say;
use serde::Serialize;

fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    say(&format!("{}\n", serde_json::to_string_pretty(value)?));
    Ok(())
}

/// Standard output is for the table; that there is nothing to show is said beside it.
fn print_table(table: &crate::table::Table, nothing: &str) {
    if table.is_empty() {
        eprintln!("{nothing}");
        return;
    }
    say(&table.to_string());
}
