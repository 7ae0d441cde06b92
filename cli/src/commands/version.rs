//! `mesh version`

use crate::{arguments::VersionOptions, reach::Reach, say::say};

pub async fn run(reach: &Reach, VersionOptions { client }: VersionOptions) -> anyhow::Result<()> {
    say(&format!("Client version: {}\n", env!("CARGO_PKG_VERSION")));
    if client {
        return Ok(());
    }
    let answer: serde_json::Value = reach.operator().await?.get("/api/v1/version", &[]).await?;
    say(&format!("Server version: {}\n", answer["version"].as_str().unwrap_or("unknown")));
    Ok(())
}
