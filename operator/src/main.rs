//! The operator, as a table of contents.

use anyhow::Context;
use clap::Parser;
use mesh_api::names;
use mesh_operator::{
    api,
    cluster::Cluster,
    config::{Config, environment, flags, reference},
    edges::Edges,
    grpc,
    listen::listen,
    telemetry::{self, Forward, Limits, Store},
    world::{self, stores::Stores},
};
use mesh_policy::{Tables, World};
use std::{num::NonZero, process::ExitCode, sync::Arc, thread::available_parallelism};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

fn main() -> ExitCode {
    one_heap();
    let config = match Config::try_parse() {
        Err(help) if !help.use_stderr() => help.exit(),
        config => config,
    };
    let wrong = complaints();
    if !wrong.is_empty() {
        eprintln!("mesh-operator: {}", wrong.join("\nmesh-operator: "));
        return ExitCode::from(64);
    }
    let config = config.unwrap_or_else(|error| error.exit());
    if config.reference {
        print!("{}", reference::markdown());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = init_log(&config.log) {
        eprintln!("mesh-operator: {error:#}");
        return ExitCode::from(64);
    }
    match runtimes().and_then(|(all, proxies)| all.block_on(run(config, proxies.handle()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Threads share one heap. With a few threads they hardly meet, and of several heaps each would keep what only it has once needed.
fn one_heap() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a setting of glibc's allocator, made before there are threads")]
    // SAFETY: sets a number; no memory is touched.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// All that is wrong with what we were told, wherever.
fn complaints() -> Vec<String> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())));
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    [flags::complaints(arguments), environment::complaints(variables)].concat()
}

/// However many processors a node has: more would wait for each other, and each costs memory.
const MAX_THREADS: usize = 4;

/// One for proxies' connections, and one for all else. Connections have a thread to themselves: with two, each change would wake both for
/// work that takes microseconds, and whatever else takes long would make proxies wait.
fn runtimes() -> anyhow::Result<(Runtime, Runtime)> {
    let threads = available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let all = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    let all = all.context("starting the runtime")?;
    let proxies = Builder::new_multi_thread().worker_threads(1).thread_name("proxies").enable_all().build();
    Ok((all, proxies.context("starting the proxies' thread")?))
}

async fn run(config: Config, proxies: &Handle) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let (stop_tx, stop) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut started = tokio::select! {
        started = start(&config, proxies, stop, &mut tasks) => started?,
        () = signals.any() => return Ok(()),
    };
    signals.any().await;
    tracing::info!("stopping");
    if let Some(cluster) = &started.cluster {
        tokio::select! {
            () = cluster.linger() => {}
            () = signals.any() => {}
        }
    }
    stop_tx.send_replace(true);
    if let Some(cluster) = &mut started.cluster {
        cluster.end().await;
    }
    started.serving.await.context("serving gRPC")?;
    Ok(())
}

/// What is waited for at the end, and what must live until then.
struct Started {
    serving: JoinHandle<()>,
    cluster: Option<Cluster>,
}

async fn start(
    config: &Config,
    proxies: &Handle,
    stop: watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Started> {
    let settings = config.settings();
    let grpc_listener = listen(config.grpc_addr, "--grpc-addr").await?;
    let http_listener = listen(config.http_addr, "--http-addr").await?;
    let forward = config.otlp_forward.as_deref().map(Forward::start).transpose().context("--otlp-forward")?;
    let store = Arc::new(Store::new(Limits::default(), forward));
    let (tables_tx, tables) = watch::channel(Arc::new(Tables::build(&World::default(), &settings)));
    let stores = Stores::default();
    let (ready, is_ready) = watch::channel(false);
    let certificates = Arc::<grpc::Certificates>::default();

    let mut cluster = None;
    let edges = match &config.manifests {
        Some(folder) => Edges::standalone(config, folder, grpc_listener)?,
        None => {
            let connected =
                Cluster::connect(config, tables.clone(), stores.readers(), is_ready, certificates.clone())
                    .await?;
            cluster.insert(connected).edges(config, grpc_listener)?
        }
    };
    tasks.spawn(world::run(stores, edges.batches, settings, edges.source, tables_tx));
    let mut first = tables.clone();
    first.changed().await.context("reading the configuration")?;

    let api_config = api_config(config, edges.cluster);
    let authority = edges.authority.clone();
    let telemetry = telemetry::otlp_routes(store.clone(), tables.clone(), edges.standing.clone());
    let streams = Arc::new(grpc::Streams::default());
    let (routes, told) = {
        // What wakes a stream is best on its thread.
        let _there = proxies.enter();
        grpc::services(
            tables.clone(),
            edges.authority,
            edges.accounts,
            certificates,
            streams.clone(),
            stop.clone(),
        )
    };
    let serving =
        proxies.spawn(grpc::serve(edges.door, routes.merge(telemetry), edges.standing, stop.clone()));
    let (telemetry, login) = (store.clone(), edges.login);
    let state = api::State { tables, telemetry, streams, authority, login, config: api_config };
    let api = api::serve(http_listener, state);
    tasks.spawn(async {
        if let Err(error) = api.await {
            tracing::error!(%error, "the HTTP server has ended");
        }
    });
    if let Some(cluster) = &mut cluster {
        cluster.work(config, first, store, told, stop).await?;
    }
    ready.send_replace(true);
    tracing::info!(grpc = %config.grpc_addr, http = %config.http_addr, "operator is ready");
    Ok(Started { serving, cluster })
}

fn api_config(config: &Config, cluster: String) -> api::Config {
    let secret = config.issuer_secret.as_deref().unwrap_or(names::IDENTITY_SECRET);
    api::Config {
        version: env!("CARGO_PKG_VERSION").into(),
        cluster,
        dashboard: match &config.dashboard_dir {
            Some(folder) => api::Dashboard::Folder(Arc::new(folder.clone())),
            None => api::Dashboard::Embedded,
        },
        allowed_hosts: config.dashboard_allowed_host.clone(),
        identity_secret: config.cluster.then(|| format!("{}/{secret}", config.namespace)),
        started_ms: telemetry::now_ms(),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Signals> {
        let terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
        Ok(Signals { terminate, interrupt })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn init_log(filter: &str) -> anyhow::Result<()> {
    let filter =
        filter.parse::<tracing_subscriber::EnvFilter>().with_context(|| format!("--log {filter:?}"))?;
    // Colours are for people: a log file has none.
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    Ok(())
}
