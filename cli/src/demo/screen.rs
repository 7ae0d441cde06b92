//! What the demo shows: progress while starting, the welcome, one live line. On a terminal the line is rewritten in place;
//! elsewhere each is a line of its own, and a step that has not changed is not repeated.

use super::pods::Pod;
use crate::{
    say::say,
    table::{millis, percent, rate},
};
use indicatif::{ProgressBar, ProgressStyle};
use mesh_api::overview::Overview;
use std::{fmt::Write, io::IsTerminal, path::Path, time::Duration};

#[derive(Debug)]
pub struct Screen {
    /// Only on a terminal.
    bar: Option<ProgressBar>,
    last: String,
}

impl Screen {
    pub fn new() -> Screen {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Screen { bar, last: String::new() }
    }

    pub fn step(&mut self, text: &str) {
        if text != self.last {
            self.show(text);
        }
    }

    pub fn live(&mut self, text: &str) {
        self.show(text);
    }

    fn show(&mut self, text: &str) {
        text.clone_into(&mut self.last);
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => eprintln!("{text}"),
        }
    }

    /// To standard output, above the live line.
    pub fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

pub fn welcome(dashboard: &str, manifests: &Path, pods: &[Pod]) -> String {
    let manifests = manifests.display();
    let mut text = format!("\n  Dashboard     {dashboard}\n");
    let page = pods.iter().find(|pod| pod.role() == "productpage");
    // Writing into a String cannot fail, here and below.
    if let Some(page) = page {
        let port = page.application_addr().port();
        let _ = writeln!(text, "  Product page  http://{}:{port}/productpage", page.ip);
    }
    let _ = writeln!(text, "\n  Three things to try");
    let _ = writeln!(
        text,
        "  1. Open {dashboard}/graph and select an edge: rate, latency, identity of both ends."
    );
    let _ = writeln!(
        text,
        "  2. In {manifests}/routes.yaml set the weights to 0, 0 and 100 and save: all stars turn red."
    );
    if let Some(page) = page {
        let port = page.application_addr().port();
        let _ = writeln!(
            text,
            "  3. Run `curl http://{}:{port}/api/v1/products/0/ratings`: refused. `mesh authz bookinfo/ratings-v1` says why.",
            page.ip
        );
    }
    text.push_str("\n  Ctrl-C ends everything.\n\n");
    text
}

pub fn live_line(overview: &Overview) -> String {
    let total = &overview.total;
    format!(
        "{} requests/s · success {} · p50 {} · p99 {} · mTLS {} · proxies {}/{}",
        rate(total.rate_per_s),
        percent(total.success),
        millis(total.p50_ms),
        millis(total.p99_ms),
        percent(overview.mtls),
        overview.proxies,
        overview.proxies_expected
    )
}
