//! The operator, as a table of contents.

use anyhow::Context;
use clap::Parser;
use mesh_operator::{
    api, ca,
    config::Config,
    grpc,
    telemetry::{self, Forward, Limits, Store},
    tokens, world,
};
use mesh_policy::{Tables, World};
use std::{fs, os::unix::fs::DirBuilderExt, process::ExitCode, sync::Arc, time::SystemTime};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(error) = init_log(&config.log) {
        eprintln!("mesh-operator: {error:#}");
        return ExitCode::from(64);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ran = runtime.context("starting the runtime").and_then(|runtime| runtime.block_on(run(config)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    let settings = config.settings();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.state_dir).with_context(|| {
        format!("making the state folder {} (choose another with --state-dir)", config.state_dir.display())
    })?;
    let authority = Arc::new(ca::Authority::open(
        &config.state_dir,
        &config.trust_domain,
        config.leaf_lifetime,
        SystemTime::now(),
    )?);
    let tokens = Arc::new(tokens::Tokens::open(&config.state_dir)?);
    let mut folder = world::manifests::Folder::open(&config.manifests, &config.state_dir)?;
    let grpc_listener = listen(config.grpc_addr, "--grpc-addr").await?;
    let http_listener = listen(config.http_addr, "--http-addr").await?;
    let forward = config.otlp_forward.as_deref().map(Forward::start).transpose().context("--otlp-forward")?;
    let store = Arc::new(Store::new(Limits::default(), forward));

    // Capacity 1: the folder waits until its last content is applied.
    let (batches, received) = mpsc::channel(1);
    let (tables_tx, tables) = watch::channel(Arc::new(Tables::build(&World::default(), &settings)));
    // The first content is there before anybody can ask.
    let first = folder.read().context("the manifests cannot be listed, see above")?;
    batches.try_send(first).context("reading the manifests")?;
    let world = tokio::spawn(world::run(received, settings.clone(), tokens.clone(), tables_tx));
    let mut ready = tables.clone();
    ready.changed().await.context("reading the manifests")?;
    let watching = tokio::spawn(world::manifests::run(folder, batches));

    let (stop_tx, stop) = watch::channel(false);
    let api_config = api_config(&config, &authority);
    let (metrics, spans) = telemetry::otlp_services(store.clone());
    let streams = Arc::new(grpc::Streams::default());
    let routes = grpc::services(tables.clone(), authority, tokens, streams.clone(), stop.clone())
        .add_service(metrics)
        .add_service(spans);
    let serving = tokio::spawn(grpc::serve(grpc_listener, routes, stop));
    let state = api::State { tables, telemetry: store, streams, config: api_config };
    let api = tokio::spawn(api::serve(http_listener, state));
    tracing::info!(grpc = %config.grpc_addr, http = %config.http_addr, "operator is ready");

    wait_for_signal().await?;
    tracing::info!("stopping");
    stop_tx.send_replace(true);
    watching.abort();
    world.abort();
    api.abort();
    serving.await.context("serving gRPC")??;
    Ok(())
}

fn api_config(config: &Config, authority: &ca::Authority) -> api::Config {
    let anchor_ends = authority.trust_anchor_ends().duration_since(SystemTime::UNIX_EPOCH);
    api::Config {
        version: env!("CARGO_PKG_VERSION").into(),
        cluster: "standalone".into(),
        dashboard: match &config.dashboard_dir {
            Some(folder) => api::Dashboard::Folder(Arc::new(folder.clone())),
            None => api::Dashboard::Embedded,
        },
        allowed_hosts: config.dashboard_allowed_host.clone(),
        trust_anchor_expires_s: anchor_ends.ok().map(|since| since.as_secs()),
        started_ms: telemetry::now_ms(),
    }
}

async fn listen(addr: std::net::SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| {
        format!("listening on {addr} (is another operator running? choose another with {flag})")
    })
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn init_log(filter: &str) -> anyhow::Result<()> {
    let filter =
        filter.parse::<tracing_subscriber::EnvFilter>().with_context(|| format!("--log {filter:?}"))?;
    // Colours are for people: a log file has none.
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    Ok(())
}
