//! The threads that carry traffic. Each has its own runtime, listeners, pools and balancers; only `Arc` snapshots and the
//! discovery channel cross.

use crate::{
    accept::{self, Accepted, Kind, Share, Until},
    capacity,
    config::Config,
    control::Control,
    drain::Guard,
    inbound::Inbound,
    outbound::Outbound,
    telemetry::Telemetry,
};
use anyhow::Context as _;
use std::{net::SocketAddr, sync::Arc, thread};
use tokio::{
    net::TcpListener,
    runtime,
    task::{LocalSet, spawn_local},
};

/// Starts them. Fails, in the caller's thread, if a listener's address is not to be had.
///
/// Traffic is served from the first certificate on: until then connections wait in the kernel.
pub fn start(
    config: &Arc<Config>,
    control: &Control,
    telemetry: &Telemetry,
    guard: &Guard,
) -> anyhow::Result<()> {
    let places = capacity::of_listener(config.cores.get());
    for n in 0..config.cores.get() {
        let sockets = Sockets::open(config)?;
        let (config, control, telemetry, guard) =
            (config.clone(), control.clone(), telemetry.clone(), guard.clone());
        let run = move || run(&config, control, &telemetry, guard, sockets, places);
        thread::Builder::new().name(format!("worker-{n}")).spawn(run).context("start a worker thread")?;
    }
    Ok(())
}

/// Listeners before they belong to a runtime.
struct Sockets {
    outbound: Vec<std::net::TcpListener>,
    inbound: Vec<std::net::TcpListener>,
    direct: Vec<std::net::TcpListener>,
}

impl Sockets {
    fn open(config: &Config) -> anyhow::Result<Sockets> {
        Ok(Sockets {
            outbound: open(&config.outbound.listen, "outbound")?,
            inbound: open(&[config.inbound.listen], "inbound")?,
            direct: open(&config.inbound.direct, "direct inbound")?,
        })
    }
}

/// An address of IPv6 beside one of IPv4 is left out where there is no IPv6: nothing can be sent there.
fn open(addrs: &[SocketAddr], what: &str) -> anyhow::Result<Vec<std::net::TcpListener>> {
    let is_dual = addrs.iter().any(SocketAddr::is_ipv4);
    let mut sockets = vec![];
    for addr in addrs {
        let listeners = match accept::listen(*addr, Share::Workers) {
            Err(error) if is_dual && addr.is_ipv6() && accept::lacks_ipv6(&error) => continue,
            listeners => listeners,
        };
        let opened = listeners
            .and_then(|all| all.into_iter().map(TcpListener::into_std).collect::<Result<Vec<_>, _>>());
        sockets.extend(
            opened
                .with_context(|| format!("listen on {addr} ({what}): is another process using the port?"))?,
        );
    }
    Ok(sockets)
}

fn run(
    config: &Arc<Config>,
    control: Control,
    telemetry: &Telemetry,
    guard: Guard,
    sockets: Sockets,
    places: usize,
) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "cannot start a worker's runtime"),
    };
    LocalSet::new().block_on(&runtime, serve(config.clone(), control, telemetry, guard, sockets, places));
}

async fn serve(
    config: Arc<Config>,
    mut control: Control,
    telemetry: &Telemetry,
    guard: Guard,
    sockets: Sockets,
    places: usize,
) {
    tokio::select! {
        _ = control.credentials.wait_for(Option::is_some) => {}
        () = guard.draining() => return,
    }
    let outbound = Outbound::new(config.clone(), control.clone(), telemetry.worker(), &guard);
    let inbound = Inbound::new(config.clone(), control, telemetry.worker(), &guard);
    for listener in sockets.outbound {
        let (outbound, until, tcp) =
            (outbound.clone(), Until::End(guard.observer()), config.outbound.connections.accept);
        let connection =
            move |Accepted { stream, client, dst, .. }| outbound.clone().connection(stream, client, dst);
        if let Some(listener) = adopt(listener) {
            spawn_local(accept::run(listener, Kind::Redirected, until, places, tcp, connection));
        }
    }
    let direct = sockets.direct.into_iter().map(|listener| (listener, Kind::Direct));
    let redirected = sockets.inbound.into_iter().map(|listener| (listener, Kind::Redirected));
    for (listener, kind) in direct.chain(redirected) {
        let (inbound, until, tcp) =
            (inbound.clone(), Until::Drain(guard.clone()), config.inbound.connections.accept);
        let connection = move |Accepted { stream, client, dst, local }| {
            inbound.clone().connection(stream, client, dst, local)
        };
        if let Some(listener) = adopt(listener) {
            spawn_local(accept::run(listener, kind, until, places, tcp, connection));
        }
    }
    // Connections hold guards of their own; the process ends when the last is gone.
    drop(guard);
    std::future::pending::<()>().await;
}

fn adopt(listener: std::net::TcpListener) -> Option<TcpListener> {
    TcpListener::from_std(listener).inspect_err(|error| tracing::error!(%error, "cannot listen")).ok()
}
