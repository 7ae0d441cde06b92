//! What the demo says: the welcome, and its live line.

use super::pods::Pod;
use crate::table::{millis, percent, rate};
use mesh_api::{names::OPERATOR_HTTP_PORT, overview::Overview};
use std::{env, fmt::Write, path::Path};

pub fn welcome(dashboard: &str, manifests: &Path, pods: &[Pod]) -> String {
    let (manifests, mesh) = (manifests.display(), program());
    // Only where every command looks by itself, nobody has to say where.
    let operator = match dashboard == format!("http://127.0.0.1:{OPERATOR_HTTP_PORT}") {
        true => String::new(),
        false => format!(" --operator {dashboard}"),
    };
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
            "  3. Run `curl http://{}:{port}/api/v1/products/0/ratings`: refused. `{mesh} authz bookinfo/ratings-v1{operator}` says why.",
            page.ip
        );
    }
    text.push_str("\n  Ctrl-C ends everything.\n\n");
    text
}

/// This program as one calls it from here: it is seldom in the `PATH` of who has just built it.
fn program() -> String {
    let called = env::args_os().next().unwrap_or_else(|| "mesh".into());
    let (called, here) = (Path::new(&called), env::current_dir().unwrap_or_default());
    called.strip_prefix(&here).unwrap_or(called).display().to_string()
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
