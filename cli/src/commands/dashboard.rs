//! `mesh dashboard`: prints where the dashboard is and, at a terminal, opens it.

use crate::{api::Client, arguments::DashboardOptions, say::say};
use std::{
    io::IsTerminal,
    process::{Command, Stdio},
};

pub async fn run(api: &Client, DashboardOptions { url }: DashboardOptions) -> anyhow::Result<()> {
    // Nobody is sent to a page that is not there.
    let _: serde_json::Value = api.get("/api/v1/version", &[]).await?;
    say(&format!("{}\n", api.base));
    if url || !std::io::stdout().is_terminal() {
        return Ok(());
    }
    let opened = Command::new("xdg-open")
        .arg(&api.base)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !opened.is_ok_and(|status| status.success()) {
        eprintln!("no browser could be opened: open the address above yourself");
    }
    Ok(())
}
