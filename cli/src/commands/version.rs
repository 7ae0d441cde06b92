//! `mesh version`

use super::print_json;
use crate::{
    arguments::{Output, VersionOptions},
    reach::Reach,
    say::say,
};
use serde_json::{Value, json};

const CLIENT: &str = env!("CARGO_PKG_VERSION");

pub async fn run(reach: &Reach, options: VersionOptions) -> anyhow::Result<()> {
    if options.output == Output::Json {
        let mut versions = json!({ "client": CLIENT });
        if !options.client {
            versions["server"] = server(reach).await?.into();
        }
        return print_json(&versions);
    }
    say(&format!("Client version: {CLIENT}\n"));
    if !options.client {
        say(&format!("Server version: {}\n", server(reach).await?));
    }
    Ok(())
}

async fn server(reach: &Reach) -> anyhow::Result<String> {
    let answer: Value = reach.operator().await?.get("/api/v1/version", &[]).await?;
    Ok(answer["version"].as_str().unwrap_or("unknown").to_owned())
}
