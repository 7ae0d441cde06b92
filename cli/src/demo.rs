//! `mesh demo`: the whole mesh on this machine. Starts the operator, then for every Pod of the manifests its proxy and its
//! application, and ends all of them when it ends.

mod binaries;
mod children;
mod expected;
mod launch;
mod pods;
mod preflight;
mod screen;
mod state_dir;

use crate::{api::Client, arguments::DemoOptions, commands::edges, screen::Screen};
use anyhow::{bail, ensure};
use binaries::Binaries;
use children::Children;
use expected::Expected;
use launch::Launcher;
use mesh_api::{graph::Graph, names::ADMIN_PORT, overview::Overview};
use pods::Pod;
use state_dir::StateDir;
use std::{process::ExitCode, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{self, Instant},
};

/// How often a condition is looked at while starting, and how soon the end of a child is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub async fn run(options: DemoOptions) -> anyhow::Result<ExitCode> {
    let pods = pods::read(&options.manifests)?;
    let state = StateDir::create(options.state_dir.as_deref())?;
    preflight::addresses_are_free(&options, &pods)?;
    let binaries = Binaries::find()?;

    let launcher = Launcher { options: &options, binaries: &binaries, state: &state };
    let mut demo = Demo {
        api: Client::new(&format!("http://{}", options.dashboard_addr))?,
        children: Children::new(state.logs()),
        screen: Screen::new(),
        deadline: Instant::now() + options.timeout,
    };
    let mut end = End::new()?;
    // However this returns, dropping `demo` ends every child.
    tokio::select! {
        code = demo.play(&options, &launcher, &pods) => code,
        () = end.asked() => {
            demo.screen.step("ending");
            Ok(ExitCode::SUCCESS)
        }
    }
}

struct Demo {
    api: Client,
    children: Children,
    screen: Screen,
    deadline: Instant,
}

impl Demo {
    async fn play(
        &mut self,
        options: &DemoOptions,
        launcher: &Launcher<'_>,
        pods: &[Pod],
    ) -> anyhow::Result<ExitCode> {
        self.start(options, launcher, pods).await?;
        let expected = Expected::of(pods);
        if options.until_ready {
            let graph = self.all_edges(&expected).await?;
            self.screen.print(&edges::table(&graph).to_string());
            return Ok(ExitCode::SUCCESS);
        }
        self.screen.print(&screen::welcome(&self.api.base, &options.manifests, pods));
        self.live().await
    }

    /// The operator first, since proxies need its tokens; the traffic last, so that nobody asks before there is an answer.
    async fn start(
        &mut self,
        options: &DemoOptions,
        launcher: &Launcher<'_>,
        pods: &[Pod],
    ) -> anyhow::Result<()> {
        self.screen.step("starting the operator");
        self.children.start("mesh-operator", launcher.operator())?;
        self.until("the operator answers", async |demo: &Demo| demo.api.answers("/api/v1/version").await)
            .await?;

        for pod in pods {
            if pod.meshed && !(options.no_traffic && pod.is_traffic()) {
                self.children.start(&format!("{}-proxy", pod.name), launcher.proxy(pod)?)?;
            }
        }
        let (traffic, services): (Vec<&Pod>, Vec<&Pod>) = pods.iter().partition(|pod| pod.is_traffic());
        self.applications(launcher, &services).await?;
        if options.no_traffic {
            return Ok(());
        }
        for pod in &traffic {
            self.until_proxy(pod).await?;
        }
        self.applications(launcher, &traffic).await
    }

    /// Starts these Pods' applications together and waits for all of them.
    async fn applications(&mut self, launcher: &Launcher<'_>, pods: &[&Pod]) -> anyhow::Result<()> {
        for pod in pods {
            self.children.start(&pod.name, launcher.application(pod))?;
        }
        for (ready, pod) in pods.iter().enumerate() {
            self.screen.step(&format!("starting: {ready} of {} ready, waiting for {}", pods.len(), pod.name));
            self.until_proxy(pod).await?;
            if let Some(path) = &pod.health_path {
                let application = Client::new(&format!("http://{}", pod.application_addr()))?;
                let what = format!("the application of {} is ready", pod.name);
                self.until(&what, async |_: &Demo| application.answers(path).await).await?;
            }
        }
        Ok(())
    }

    async fn until_proxy(&mut self, pod: &Pod) -> anyhow::Result<()> {
        if !pod.meshed {
            return Ok(());
        }
        let admin = Client::new(&format!("http://{}:{ADMIN_PORT}", pod.ip))?;
        let what = format!("the proxy of {} is ready", pod.name);
        self.until(&what, async |_: &Demo| admin.answers("/ready").await).await
    }

    /// Until every expected edge has carried traffic, all of it over mutual TLS.
    async fn all_edges(&mut self, expected: &Expected) -> anyhow::Result<Graph> {
        loop {
            let graph = self.api.get::<Graph>("/api/v1/graph", &[("window", Some("1m"))]).await;
            let missing = match &graph {
                Ok(graph) => expected.missing(graph),
                Err(e) => vec![format!("{e:#}")],
            };
            if let (true, Ok(graph)) = (missing.is_empty(), graph) {
                let surplus = expected.surplus(&graph);
                ensure!(surplus.is_empty(), "traffic where none should be: {}", surplus.join("; "));
                return Ok(graph);
            }
            self.screen.step(&format!("waiting for {} edges: {}", missing.len(), missing.join(", ")));
            if Instant::now() > self.deadline {
                bail!("not complete in time; missing: {} (more time: --timeout)", missing.join("; "));
            }
            self.children.all_alive()?;
            time::sleep(LOOK_EVERY * 4).await;
        }
    }

    /// Waits for a condition, but no longer than for a child's death or the deadline.
    async fn until(&mut self, what: &str, holds: impl AsyncFn(&Demo) -> bool) -> anyhow::Result<()> {
        while !holds(self).await {
            self.children.all_alive()?;
            if Instant::now() > self.deadline {
                bail!(
                    "waited too long until {what}: its log is in {} (more time: --timeout)",
                    self.children.logs()
                );
            }
            time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// One line a second; ends only with a child's death.
    async fn live(&mut self) -> anyhow::Result<ExitCode> {
        let mut second = time::interval(Duration::from_secs(1));
        let mut look = time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = look.tick() => self.children.all_alive()?,
                _ = second.tick() => {
                    match self.api.get::<Overview>("/api/v1/overview", &[("window", Some("10s"))]).await {
                        Ok(overview) => self.screen.live(&screen::live_line(&overview)),
                        Err(e) => self.screen.live(&format!("{e:#}")),
                    }
                }
            }
        }
    }
}

/// The ways in which somebody asks the demo to end.
struct End {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl End {
    fn new() -> anyhow::Result<End> {
        Ok(End {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
