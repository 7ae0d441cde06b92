//! What the demo says: the welcome, and its live line.

use super::pods::Pod;
use crate::table::{millis, percent, rate};
use mesh_api::overview::Overview;
use std::{fmt::Write, path::Path};

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
