//! `mesh dashboard`: prints where the dashboard is and, at a terminal, opens it. That of a cluster is brought to this machine first.

mod door;
mod relay;

use crate::{api::Client, arguments::DashboardOptions, say::say};
use anyhow::Context;
use door::Door;
use std::{
    io::IsTerminal,
    net::Ipv4Addr,
    process::{Command, Stdio},
};
use tokio::net::TcpListener;

pub async fn run(api: &Client, options: DashboardOptions) -> anyhow::Result<()> {
    // Nobody is sent to a page that is not there.
    let _: serde_json::Value = api.get("/api/v1/version", &[]).await?;
    if api.on().is_none() {
        show(&api.base, options.no_open);
        return Ok(());
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await;
    let listener = listener
        .with_context(|| format!("listening on 127.0.0.1:{} (choose another with --port)", options.port))?;
    let door = Door::new(listener.local_addr()?)?;
    show(&door.url(), options.no_open);
    eprintln!("this is {}; Ctrl-C ends it", api.base);
    relay::run(listener, door, api.clone()).await
}

fn show(url: &str, no_open: bool) {
    say(&format!("{url}\n"));
    if no_open || !std::io::stdout().is_terminal() {
        return;
    }
    let opened = Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !opened.is_ok_and(|status| status.success()) {
        eprintln!("no browser could be opened: open the address above yourself");
    }
}
