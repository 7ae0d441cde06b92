//! The rows of the table, and how each is measured.

use crate::{
    Arguments,
    api_server::ApiServer,
    objects::{SLICES, World},
    operator::Operator,
    subscriber::{Proxy, Stuck, Tls},
};
use anyhow::{Context, Result, ensure};
use linkerd2_proxy_api::{
    destination::{Update, update},
    net::TcpAddress,
};
use prost::Message;
use std::{
    iter,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};
use tokio::time;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Row {
    /// An operator with nothing to do.
    Idle,
    /// 1,000 Services, each with a subscriber on a connection of its own.
    Spread,
    /// The same Services and streams, but a proxy watches ten of them over one connection.
    Shared,
    /// One Service with 1,000 subscribers, and one more that is stuck.
    Hot,
    /// The same with ten of them on each connection.
    HotShared,
    /// 10,000 Pods, 1,000 proxies with three streams each, and a restart.
    Large,
}

const SERVICES: usize = 1_000;
const PROXIES: usize = 1_000;
const CHANGES_PER_S: u32 = 20;
/// Handshakes under way at once.
const AT_ONCE: usize = 32;
/// After the last stream is open, and after the last change.
const SETTLE: Duration = Duration::from_secs(3);

impl Row {
    pub const ALL: [Row; 6] = [Row::Idle, Row::Spread, Row::Shared, Row::Hot, Row::HotShared, Row::Large];

    pub async fn measure(self, arguments: &Arguments, time: Duration) -> Result<()> {
        let bench = Bench::start(self, arguments).await?;
        match self {
            Row::Idle => bench.idle().await,
            Row::Spread => bench.spread(time, PROXIES).await,
            Row::Shared => bench.spread(time, PROXIES / 10).await,
            Row::Hot => bench.hot(time, PROXIES).await,
            Row::HotShared => bench.hot(time, PROXIES / 10).await,
            Row::Large => bench.large(time, arguments).await,
        }
    }

    fn world(self) -> World {
        match self {
            Row::Idle => World { services: 10, pods_per_service: 2 },
            Row::Spread | Row::Shared | Row::Hot | Row::HotShared => {
                World { services: SERVICES, pods_per_service: 2 }
            }
            Row::Large => World { services: SERVICES, pods_per_service: 10 },
        }
    }
}

fn say(row: &str, measured: String, goal: &str) {
    println!("| {row} | {measured} | {goal} |");
}

struct Bench {
    world: World,
    server: ApiServer,
    operator: Operator,
}

impl Bench {
    async fn start(row: Row, arguments: &Arguments) -> Result<Bench> {
        let (world, server) = (row.world(), ApiServer::start().await?);
        world.fill(&server);
        let operator = Operator::start(&arguments.operator, &server, &arguments.log).await?;
        Ok(Bench { world, server, operator })
    }

    async fn idle(self) -> Result<()> {
        time::sleep(SETTLE).await;
        let (now, _) = self.operator.memory()?;
        say("idle: memory", format!("{now:.1} MB"), "≤ 31.4 MB (30 MiB)");
        self.operator.stop().await
    }

    async fn spread(self, time: Duration, connections: usize) -> Result<()> {
        let changes = Arc::new(Changes::default());
        let each = SERVICES / connections;
        let watched = |proxy| proxy * each..(proxy + 1) * each;
        let proxies = self.subscribe(&changes, connections, watched, false).await?;
        let told = self.change(&changes, time, |change| change % SERVICES).await?;
        let row = format!("1,000 services, 1,000 streams on {connections} connections: update → subscriber");
        say(&row, told.latency(1), "p99 ≤ 5 ms");
        say("… processor time", told.cpu_per_minute(), "≤ 1.7 s per 60 s");
        say("… memory", format!("{:.1} MB", self.operator.memory()?.0), "≤ 60 MB");
        drop(proxies);
        self.operator.stop().await
    }

    async fn hot(self, time: Duration, connections: usize) -> Result<()> {
        let changes = Arc::new(Changes::default());
        let each = PROXIES / connections;
        let proxies = self.subscribe(&changes, connections, |_| iter::repeat_n(0, each), false).await?;
        let tls = Tls::new(&self.server)?;
        let before = self.operator.descriptors()?;
        let stuck = Stuck::connect(&tls, self.operator.grpc, 0).await?;
        let since = Instant::now();
        let (told, cut) = tokio::join!(self.change(&changes, time, |_| 0), self.cut(before, since));
        let told = told?;
        let row = format!(
            "one service, 1,000 subscribers on {connections} connections, 20 changes/s: update → subscriber"
        );
        say(&row, told.latency(PROXIES), "p99 ≤ 150 ms");
        let micros = told.cpu.as_secs_f64() * 1e6 / told.latencies.len().max(1) as f64;
        say("… processor time", format!("{micros:.1} µs a delivery"), "≤ 10 µs");
        say("… memory", format!("{:.1} MB", self.operator.memory()?.0), "");
        say("… a stuck subscriber is cut after", cut?, "10 s");
        drop((proxies, stuck));
        self.operator.stop().await
    }

    /// Waits until the operator has one connection less.
    async fn cut(&self, before: usize, since: Instant) -> Result<String> {
        while self.operator.descriptors()? > before {
            if since.elapsed() > Duration::from_secs(30) {
                return Ok("never".into());
            }
            time::sleep(Duration::from_millis(100)).await;
        }
        Ok(format!("{:.1} s", since.elapsed().as_secs_f64()))
    }

    async fn large(self, time: Duration, arguments: &Arguments) -> Result<()> {
        let first = self.operator.ready_after;
        let changes = Arc::new(Changes::default());
        let proxies = self.subscribe(&changes, PROXIES, |proxy| proxy..proxy + 1, true).await?;
        let told = self.change(&changes, time, |change| change % SERVICES).await?;
        let (steady, _) = self.operator.memory()?;
        say("10,000 pods, 1,000 services, 1,000 × 3 streams: memory", format!("{steady:.1} MB"), "≤ 120 MB");
        say("… update → subscriber, 20 changes/s", told.latency(1), "");
        say("… processor time", told.cpu_per_minute(), "");
        drop(proxies);
        self.operator.stop().await?;
        let operator = Operator::start(&arguments.operator, &self.server, &arguments.log).await?;
        let again = operator.ready_after;
        let bench = Bench { world: self.world, server: self.server, operator };
        let proxies = bench.subscribe(&Arc::default(), PROXIES, |proxy| proxy..proxy + 1, true).await?;
        time::sleep(SETTLE).await;
        let (now, peak) = bench.operator.memory()?;
        let ready = format!("{:.2} and {:.2} s", first.as_secs_f64(), again.as_secs_f64());
        say("… restart there: ready after", ready, "≤ 3 s");
        say("… peak of memory", format!("{peak:.1} MB ({:.2} × {now:.1} MB)", peak / now), "≤ 1.3 × steady");
        drop(proxies);
        bench.operator.stop().await
    }

    /// One proxy after the other, a few at once, each with a stream about each of its Services.
    async fn subscribe<S: Iterator<Item = usize>>(
        &self,
        changes: &Arc<Changes>,
        proxies: usize,
        services_of: impl Fn(usize) -> S,
        policies: bool,
    ) -> Result<Vec<Proxy>> {
        use futures_util::{StreamExt, TryStreamExt, stream};
        let tls = Tls::new(&self.server)?;
        let opening = (0..proxies).map(|proxy| {
            let (tls, services) = (tls.clone(), services_of(proxy));
            async move {
                let mut proxy = Proxy::connect(&tls, self.operator.grpc, proxy).await?;
                for service in services {
                    let changes = changes.clone();
                    proxy.destination(service, move |message| changes.told(message)).await?;
                    if policies {
                        proxy.policies(service).await?;
                    }
                }
                anyhow::Ok(proxy)
            }
        });
        let proxies = stream::iter(opening).buffer_unordered(AT_ONCE).try_collect().await;
        time::sleep(SETTLE).await;
        proxies.context("opening streams")
    }

    /// Changes Services' slices at an even rate: an endpoint comes with one change and goes with the next.
    async fn change(
        &self,
        changes: &Changes,
        time: Duration,
        service_of: impl Fn(usize) -> usize,
    ) -> Result<Told> {
        let count = (time.as_secs() * u64::from(CHANGES_PER_S)) as usize / 2 * 2;
        ensure!(changes.sent.set((0..count).map(|_| OnceLock::new()).collect()).is_ok(), "changed already");
        let cpu = self.operator.cpu()?;
        let start = time::Instant::now();
        let mut clock = time::interval(Duration::from_secs(1) / CHANGES_PER_S);
        for change in 0..count {
            clock.tick().await;
            let (service, addr) = (service_of(change / 2), address(change));
            let slice = self.world.slice(service, (change % 2 == 0).then_some(addr));
            if let Some(sent) = changes.sent.get().and_then(|sent| sent.get(change)) {
                let _ = sent.set(Instant::now());
            }
            self.server.put(SLICES, slice);
        }
        let took = start.elapsed();
        let cpu = self.operator.cpu()? - cpu;
        time::sleep(SETTLE).await;
        let mut latencies = changes.latencies();
        latencies.sort_unstable();
        Ok(Told { latencies, cpu, took, count })
    }
}

/// The address that comes with an even change and goes with the odd one after it.
fn address(change: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0ac8_0000 + (change / 2) as u32)
}

/// When each change was made, and how long each took to each subscriber.
#[derive(Default)]
struct Changes {
    sent: OnceLock<Vec<OnceLock<Instant>>>,
    latencies: Mutex<Vec<Duration>>,
}

impl Changes {
    /// Adding an address that stands for a change is that change; removing it is the next one.
    fn told(&self, message: &[u8]) {
        let now = Instant::now();
        let Ok(Update { update: Some(update) }) = Update::decode(message) else { return };
        let (addrs, odd): (Vec<TcpAddress>, usize) = match update {
            update::Update::Add(set) => (set.addrs.into_iter().filter_map(|own| own.addr).collect(), 0),
            update::Update::Remove(set) => (set.addrs, 1),
            update::Update::NoEndpoints(_) => return,
        };
        for addr in addrs {
            let Ok(IpAddr::V4(ip)) = SocketAddr::try_from(addr).map(|addr| addr.ip()) else { continue };
            let Some(pair) = u32::from(ip).checked_sub(0x0ac8_0000) else { continue };
            let sent = self.sent.get().and_then(|sent| sent.get(pair as usize * 2 + odd)?.get().copied());
            if let Some(sent) = sent {
                self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(now - sent);
            }
        }
    }

    fn latencies(&self) -> Vec<Duration> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Told {
    /// Sorted.
    latencies: Vec<Duration>,
    cpu: Duration,
    took: Duration,
    count: usize,
}

impl Told {
    fn latency(&self, subscribers: usize) -> String {
        let ms = |share: f64| {
            let at = (self.latencies.len() as f64 * share) as usize;
            let found = self.latencies.get(at.min(self.latencies.len().saturating_sub(1)));
            found.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
        };
        let arrived = 100.0 * self.latencies.len() as f64 / (self.count * subscribers) as f64;
        format!(
            "p50 {:.2}, p99 {:.2}, most {:.2} ms ({arrived:.1} % of {} changes)",
            ms(0.5),
            ms(0.99),
            ms(1.0),
            self.count
        )
    }

    fn cpu_per_minute(&self) -> String {
        format!("{:.2} s per 60 s", self.cpu.as_secs_f64() * 60.0 / self.took.as_secs_f64())
    }
}
