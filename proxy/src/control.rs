//! The control thread's side of discovery, as the workers see it: ask for a target, get a watch.
//! Streams, reconnects and decoding are its submodules' work.

pub mod backoff;
pub mod calls;
pub mod channel;
pub mod decode;
mod endpoints;
mod inbound;
mod outbound;
mod table;
#[cfg(test)]
mod tests;
mod watch;

pub use channel::channel;

use crate::{
    config::Config,
    identity::{self, Credentials},
    policy::{self, endpoint::Endpoints, outbound::Lookup, outbound::Target},
    ready::Ready,
    telemetry::Worker,
};
use calls::Channel;
use std::sync::Arc;
use table::Table;
use tokio::{
    sync::{mpsc, oneshot, watch as tokio_watch},
    task,
};

/// Workers that ask faster than the control thread answers wait; each waits for one answer at a time.
const QUESTIONS: usize = 256;

/// Whoever scans the network from this Pod, or this Pod's ports from elsewhere, may not make us hold a stream for each. All of them
/// together stay below what our operator lets one proxy hold, 4,096: a stream beyond that would wait, and with it all that come after.
const DESTINATIONS: usize = 1_500;
/// Beyond those, a port has the default policy, which is to deny unless somebody has changed it.
const PORTS: usize = 1_000;

type Watch<T> = tokio_watch::Receiver<T>;

/// What the control thread offers to everybody else.
#[derive(Clone, Debug)]
pub struct Control {
    pub discovery: Discovery,
    /// `None` until the first certificate; then always the newest.
    pub credentials: Watch<Option<Arc<Credentials>>>,
}

/// Starts identity and discovery as tasks of the running `LocalSet`; blocks readiness until the first certificate is there.
pub fn start(config: &Arc<Config>, ready: &Ready, worker: &Worker) -> Control {
    let credentials = identity::start(config, ready, worker);
    let discovery = Discovery::start(config.clone(), credentials.clone(), worker);
    Control { discovery, credentials }
}

/// A worker's way to ask. Cheap to clone, crosses threads.
#[derive(Clone, Debug)]
pub struct Discovery {
    questions: mpsc::Sender<Question>,
}

#[derive(Debug)]
enum Question {
    Outbound(Target, oneshot::Sender<Watch<Lookup>>),
    Endpoints(Arc<str>, oneshot::Sender<Watch<Endpoints>>),
    Inbound(u16, oneshot::Sender<Watch<Arc<policy::inbound::Policy>>>),
}

impl Discovery {
    /// Starts answering, as a task of the running `LocalSet`.
    pub fn start(
        config: Arc<Config>,
        credentials: Watch<Option<Arc<Credentials>>>,
        worker: &Worker,
    ) -> Discovery {
        let (questions, asked) = mpsc::channel(QUESTIONS);
        task::spawn_local(Answers::new(config, credentials, worker).serve(asked));
        Discovery { questions }
    }

    /// Watches the policy of a target. The first value may be `Pending`. The stream ends some time (the discovery idle time)
    /// after the last receiver is dropped.
    pub async fn outbound(&self, target: Target) -> Watch<Lookup> {
        self.ask(|answer| Question::Outbound(target, answer)).await
    }

    /// Watches the endpoints of a destination path, `name.namespace.svc.cluster.local:80`.
    pub async fn endpoints(&self, path: Arc<str>) -> Watch<Endpoints> {
        self.ask(|answer| Question::Endpoints(path, answer)).await
    }

    /// Watches the policy of one of the application's ports; starts with the configured default.
    pub async fn inbound(&self, port: u16) -> Watch<Arc<policy::inbound::Policy>> {
        self.ask(|answer| Question::Inbound(port, answer)).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> T {
        let (answer, answered) = oneshot::channel();
        if self.questions.send(question(answer)).await.is_ok()
            && let Ok(answer) = answered.await
        {
            return answer;
        }
        // The control thread has ended, so the process is about to: nothing that is started now can matter.
        std::future::pending().await
    }
}

/// The other end of `Discovery`, on the control thread.
struct Answers {
    config: Arc<Config>,
    policy: Channel,
    destination: Channel,
    outbound: Table<Target, Lookup>,
    endpoints: Table<Arc<str>, Endpoints>,
    inbound: Table<u16, Arc<policy::inbound::Policy>>,
}

impl Answers {
    fn new(config: Arc<Config>, credentials: Watch<Option<Arc<Credentials>>>, worker: &Worker) -> Answers {
        let policy = channel(&config.control.policy, credentials.clone(), worker);
        let destination = if config.control.destination == config.control.policy {
            policy.clone()
        } else {
            channel(&config.control.destination, credentials, worker)
        };
        let patience = |idle| watch::Patience {
            initial_timeout: config.control.initial_timeout,
            lifetime: config.control.stream_lifetime,
            idle,
        };
        Answers {
            policy,
            destination,
            outbound: Table::new(patience(config.outbound.connections.discovery_idle), DESTINATIONS),
            endpoints: Table::new(patience(config.outbound.connections.discovery_idle), DESTINATIONS),
            inbound: Table::new(patience(config.inbound.connections.discovery_idle), PORTS),
            config,
        }
    }

    async fn serve(self, mut asked: mpsc::Receiver<Question>) {
        // Held for life: their policy is there when the first connection is.
        let _ports: Vec<_> = self.config.inbound.ports.iter().map(|port| self.inbound(*port)).collect();
        while let Some(question) = asked.recv().await {
            // A worker that does not wait for its answer any more has dropped its connection.
            match question {
                Question::Outbound(target, answer) => drop(answer.send(self.outbound(target))),
                Question::Endpoints(path, answer) => drop(answer.send(self.endpoints(path))),
                Question::Inbound(port, answer) => drop(answer.send(self.inbound(port))),
            }
        }
    }

    fn outbound(&self, target: Target) -> Watch<Lookup> {
        let workload = self.config.workload.text.clone();
        let subject = || outbound::OutboundPolicies::new(self.policy.clone(), workload, target.clone());
        self.outbound
            .watch(target.clone(), Lookup::default, subject)
            .unwrap_or_else(|| constant(Lookup::Invalid("too many destinations are in use at once".into())))
    }

    fn endpoints(&self, path: Arc<str>) -> Watch<Endpoints> {
        let context = self.config.control.destination_context.clone();
        let subject = || endpoints::Destination::new(self.destination.clone(), context, path.clone());
        self.endpoints.watch(path.clone(), Endpoints::default, subject).unwrap_or_else(|| {
            constant(Endpoints::Invalid("too many destinations are in use at once".into()))
        })
    }

    fn inbound(&self, port: u16) -> Watch<Arc<policy::inbound::Policy>> {
        let workload = self.config.workload.text.clone();
        let subject = || inbound::InboundPolicies::new(self.policy.clone(), workload, port);
        let first = || self.default_policy(port);
        self.inbound.watch(port, first, subject).unwrap_or_else(|| constant(self.default_policy(port)))
    }

    fn default_policy(&self, port: u16) -> Arc<policy::inbound::Policy> {
        let settings = &self.config.inbound;
        let opaque = settings.opaque_ports.contains(&port);
        Arc::new(decode::inbound::default(
            &settings.default_policy,
            opaque,
            settings.connections.detect_timeout,
        ))
    }
}

/// A watch that never changes.
fn constant<T>(value: T) -> Watch<T> {
    tokio_watch::channel(value).1
}

#[cfg(test)]
impl Discovery {
    /// Answers from watches: every target and port from one, endpoints by path. For tests of the request path.
    pub fn scripted(
        outbound: Watch<Lookup>,
        endpoints: impl Fn(&str) -> Watch<Endpoints> + 'static,
        inbound: Watch<Arc<policy::inbound::Policy>>,
    ) -> Discovery {
        let (questions, mut asked) = mpsc::channel(QUESTIONS);
        task::spawn_local(async move {
            while let Some(question) = asked.recv().await {
                match question {
                    Question::Outbound(_, answer) => drop(answer.send(outbound.clone())),
                    Question::Endpoints(path, answer) => drop(answer.send(endpoints(&path))),
                    Question::Inbound(_, answer) => drop(answer.send(inbound.clone())),
                }
            }
        });
        Discovery { questions }
    }
}
