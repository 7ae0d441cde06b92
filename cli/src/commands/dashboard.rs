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
    thread::{self, JoinHandle},
};
use tokio::net::TcpListener;

pub async fn run(api: &Client, options: DashboardOptions) -> anyhow::Result<()> {
    // Nobody is sent to a page that is not there.
    let _: serde_json::Value = api.get("/api/v1/version", &[]).await?;
    if api.on().is_none() {
        if let Some(browser) = show(&api.base, options.no_open) {
            // The page is another process's: ours ends with the opener, which may have a complaint.
            let _ = browser.join();
        }
        return Ok(());
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await;
    let listener = listener
        .with_context(|| format!("listening on 127.0.0.1:{} (choose another with --port)", options.port))?;
    let door = Door::new(listener.local_addr()?)?;
    // Not waited for: it may go on for as long as its browser, which waits for what we serve.
    let _ = show(&door.url(), options.no_open);
    eprintln!("this is {}; Ctrl-C ends it", api.base);
    relay::run(listener, door, api.clone()).await
}

/// The opener, where a browser is wanted.
fn show(url: &str, no_open: bool) -> Option<JoinHandle<()>> {
    say(&format!("{url}\n"));
    if no_open || !std::io::stdout().is_terminal() {
        return None;
    }
    let mut opener = Command::new("xdg-open");
    opener.arg(url).stdin(Stdio::null());
    Some(open(opener))
}

/// On a thread that does nothing else: ours has to serve meanwhile.
fn open(mut opener: Command) -> JoinHandle<()> {
    opener.stdout(Stdio::null()).stderr(Stdio::null());
    thread::spawn(move || {
        if !opener.status().is_ok_and(|status| status.success()) {
            eprintln!("no browser could be opened: open the address above yourself");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io, sync::mpsc, time::Duration};

    #[test]
    fn an_opener_that_goes_on_keeps_nobody_from_serving() {
        let (stdin, held) = io::pipe().unwrap();
        let mut opener = Command::new("cat");
        opener.stdin(stdin);
        let (told, opened) = mpsc::channel();
        thread::spawn(move || told.send(open(opener)));
        let opening = opened.recv_timeout(Duration::from_secs(10)).expect("it was waited for");
        assert!(!opening.is_finished());
        drop(held);
        opening.join().unwrap();
    }
}
