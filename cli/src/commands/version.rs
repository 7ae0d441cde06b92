//! `mesh version`

use crate::{api::Client, arguments::VersionOptions};

pub async fn run(api: &Client, VersionOptions { client }: VersionOptions) -> anyhow::Result<()> {
    println!("Client version: {}", env!("CARGO_PKG_VERSION"));
    if client {
        return Ok(());
    }
    let answer: serde_json::Value = api.get("/api/v1/version", &[]).await?;
    println!("Server version: {}", answer["version"].as_str().unwrap_or("unknown"));
    Ok(())
}
