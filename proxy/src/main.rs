//! A table of contents: configuration, log, redirection, control plane, workers, signal, drain. The main thread is the control thread.

use anyhow::Context as _;
use mesh_proxy::{
    admin, await_ready,
    config::{Config, Errors, help},
    control,
    drain::{self, Outcome},
    init, log,
    ready::Ready,
    signal::{self, Cause, Shutdown},
    telemetry::{self, Telemetry, metrics::family},
    workers,
};
use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
};
use tokio::{runtime, task::LocalSet, time};
use tracing::{error, info, warn};

/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let redirect_first = match arguments.as_slice() {
        [] => None,
        ["start", arguments @ ..] => match init::plan(arguments) {
            Ok(plan) => Some(plan),
            Err(Errors(errors)) => return usage(&errors.join("\nmesh-proxy: ")),
        },
        ["--help" | "-h"] => return print(&help::terminal()),
        ["--version" | "-V"] => return print(concat!("mesh-proxy ", env!("CARGO_PKG_VERSION"), "\n")),
        ["init", arguments @ ..] => return redirect(arguments),
        ["await"] => return wait_until_ready(),
        ["env", "--markdown"] => return print(&help::markdown()),
        ["metrics", "--markdown"] => return print(&family::markdown()),
        _ => {
            return usage(&format!(
                "unknown arguments {arguments:?}: `mesh-proxy --help` says what there is"
            ));
        }
    };
    let config = match Config::from_process_env() {
        Ok(config) => Arc::new(config),
        Err(Errors(errors)) => return usage(&errors.join("\nmesh-proxy: ")),
    };
    log::init(&config.log);
    let redirected =
        redirect_first.map_or(Ok(()), |plan| init::run_and_step_down(&plan, |done| info!("{done}")));
    match redirected.and_then(|()| run(config)) {
        Ok(Outcome::Clean) => ExitCode::SUCCESS,
        Ok(Outcome::TimedOut) => {
            warn!("closed what was still open");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Arc<Config>) -> anyhow::Result<Outcome> {
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("start the control thread")?;
    LocalSet::new().block_on(&runtime, serve(config))
}

async fn serve(config: Arc<Config>) -> anyhow::Result<Outcome> {
    let ready = Ready::default();
    let shutdown = Shutdown::default();
    let (drain, guard) = drain::new();
    let (telemetry, spans) = Telemetry::configured(&config.telemetry);
    let control = control::start(&config, &ready, &telemetry.worker());
    let telemetry_task = telemetry::start(&config, &telemetry, spans, control.credentials.clone());
    admin::start(&config.admin, ready.clone(), telemetry.clone(), &shutdown).await?;
    workers::start(&config, &control, &telemetry, &guard)?;
    drop((control, telemetry, guard));
    info!(identity = %config.identity.name, inbound = %config.inbound.listen, outbound = ?config.outbound.listen, "started");

    let cause = signal::wait(&shutdown).await.context("wait for signals")?;
    let ending = async {
        if cause != Cause::Asked && !config.delay.is_zero() {
            info!(%cause, delay = ?config.delay, "going on for a while");
            time::sleep(config.delay).await;
        }
        let _draining = ready.block("draining");
        info!(%cause, grace = ?config.grace, "draining");
        drain.finish(config.grace).await
    };
    let outcome = tokio::select! {
        outcome = ending => outcome,
        // Who asks twice does not want to wait.
        _ = signal::wait(&shutdown) => Outcome::TimedOut,
    };
    telemetry_task.finish().await;
    Ok(outcome)
}

fn redirect(arguments: &[&str]) -> ExitCode {
    let plan = match init::plan(arguments) {
        Ok(plan) => plan,
        Err(Errors(errors)) => return usage(&errors.join("\nmesh-proxy: ")),
    };
    match init::run(&plan, |done| println!("init: {done}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-proxy: init: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn wait_until_ready() -> ExitCode {
    let admin = match await_ready::addr(&|variable| std::env::var(variable).ok()) {
        Ok(admin) => admin,
        Err(Errors(errors)) => return usage(&errors.join("\nmesh-proxy: ")),
    };
    match await_ready::run(admin, await_ready::PATIENCE) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A reader that has gone away (`mesh-proxy --help | head`) is no error.
fn print(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn usage(error: &str) -> ExitCode {
    eprintln!("mesh-proxy: {error}");
    ExitCode::from(USAGE)
}
