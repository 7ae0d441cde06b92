//! The operator's store and API with invented traffic: for work on the dashboard without proxies. Never part of the product.
//!
//! `cargo run -p mesh-operator --example fixture -- --http-addr 127.0.0.1:8084 [--dashboard-dir DIR] [--nodes 60 --edges 150] [--seed 1]`
//! Without `--nodes`, BookInfo: ratings fails every twentieth request, and a Pod without proxy calls details in plaintext.

#[path = "fixture/objects.rs"]
mod objects;
#[path = "fixture/traffic.rs"]
mod traffic;

use clap::Parser;
use mesh_operator::{
    api::{self, Config, Dashboard, Login, State},
    ca::{Authority, Keys},
    telemetry::{Limits, Store, now_ms},
};
use mesh_policy::{Settings, Tables};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{net::TcpListener, sync::watch};

#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "127.0.0.1:8084")]
    http_addr: SocketAddr,
    /// Serves the dashboard from here instead of the embedded one
    #[arg(long)]
    dashboard_dir: Option<PathBuf>,
    /// Invents a mesh of this many workloads instead of BookInfo
    #[arg(long)]
    nodes: Option<usize>,
    #[arg(long, default_value_t = 150)]
    edges: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mesh = match args.nodes {
        None => objects::bookinfo(),
        Some(nodes) => objects::invented(nodes.max(2), args.edges, args.seed),
    };
    let tables = Tables::build(&mesh.world(), &Settings::default());
    for diagnostic in tables.diagnostics() {
        eprintln!("{diagnostic}");
    }
    let (_keep, tables) = watch::channel(Arc::new(tables));
    let store = Arc::new(Store::new(Limits::default(), None));
    let started_ms = now_ms();
    let now = SystemTime::now();
    let authority = Authority::new(&Keys::generate("cluster.local", now)?, Duration::from_secs(86_400), now)?;
    let (_keys, authority) = watch::channel(Arc::new(authority));
    let config = Config {
        version: env!("CARGO_PKG_VERSION").into(),
        cluster: "fixture".into(),
        dashboard: args.dashboard_dir.map_or(Dashboard::Embedded, |dir| Dashboard::Folder(Arc::new(dir))),
        allowed_hosts: Vec::new(),
        identity_secret: None,
        started_ms,
    };
    let listener = TcpListener::bind(args.http_addr).await?;
    println!("http://{}", listener.local_addr()?);
    let fed = store.clone();
    // A thread of its own: making up thousands of requests must not keep the API waiting.
    std::thread::spawn(move || {
        let mut random = traffic::Random::new(args.seed);
        loop {
            traffic::second(&mesh, &fed, &mut random, started_ms);
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let (streams, login) = (Arc::default(), Login::Open);
    api::serve(listener, State { tables, telemetry: store, streams, authority, login, config }).await?;
    Ok(())
}
