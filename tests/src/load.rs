//! A bounded stream of requests at a steady rate, over keep-alive connections, each outcome kept.

use crate::client::{Body, Conn, Reply};
use http::{Request, Uri};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// One request of a load.
#[derive(Debug)]
pub struct Outcome {
    pub uri: Uri,
    pub started: Instant,
    pub took: Duration,
    /// What came back, or why nothing did.
    pub reply: Result<Reply, String>,
}

impl Outcome {
    /// Why the request counts as failed; `None` when it was answered below 500.
    pub fn failure(&self) -> Option<String> {
        match &self.reply {
            Ok(reply) if reply.status.as_u16() < 500 => None,
            Ok(reply) => Some(format!("{} {}", reply.status, reply.header("l5d-proxy-error"))),
            Err(error) => Some(error.clone()),
        }
    }
}

/// A load that is running. Ends at the latest after `Load::LONGEST`.
#[derive(Debug)]
pub struct Load {
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    stop: Arc<AtomicBool>,
    connections: JoinSet<()>,
}

impl Load {
    const LONGEST: Duration = Duration::from_secs(240);

    /// `rate_per_s` requests over `connections` HTTP/1 connections to `via`. A connection waits for its answer before it sends
    /// again, and catches up at once when it has fallen behind.
    pub fn start(
        via: SocketAddr,
        rate_per_s: u32,
        connections: u32,
        request: impl Fn() -> Request<Body> + Send + Clone + 'static,
    ) -> Load {
        let outcomes = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let mut set = JoinSet::new();
        let every = Duration::from_secs(1) * connections / rate_per_s;
        for index in 0..connections {
            let (outcomes, stop, request) = (Arc::clone(&outcomes), Arc::clone(&stop), request.clone());
            let first = Instant::now() + every * index / connections;
            set.spawn(connection(via, first, every, request, outcomes, stop));
        }
        Load { outcomes, stop, connections: set }
    }

    /// How many requests are over.
    pub fn done(&self) -> usize {
        self.outcomes.lock().expect("no test panics with this lock").len()
    }

    /// Ends the load, waits for the requests under way, and returns all outcomes by their start.
    pub async fn finish(mut self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.connections.join_next().await {
            ended.expect("a load's connection does not panic");
        }
        let mut outcomes = std::mem::take(&mut *self.outcomes.lock().expect("no test panics with this lock"));
        outcomes.sort_by_key(|outcome| outcome.started);
        outcomes
    }

    /// Lets it run so long, then ends it.
    pub async fn run_for(self, time: Duration) -> Vec<Outcome> {
        tokio::time::sleep(time).await;
        self.finish().await
    }
}

async fn connection(
    via: SocketAddr,
    first: Instant,
    every: Duration,
    request: impl Fn() -> Request<Body>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    stop: Arc<AtomicBool>,
) {
    let mut conn = None;
    let mut due = first;
    while !stop.load(Ordering::Relaxed) && due < first + Load::LONGEST {
        tokio::time::sleep_until(due.into()).await;
        due += every;
        let (request, started) = (request(), Instant::now());
        let uri = request.uri().clone();
        let reply = one(&mut conn, via, request).await;
        if reply.is_err() {
            conn = None;
        }
        let reply = reply.map_err(|error| format!("{error:#}"));
        let outcome = Outcome { uri, started, took: started.elapsed(), reply };
        outcomes.lock().expect("no test panics with this lock").push(outcome);
    }
}

async fn one(conn: &mut Option<Conn>, via: SocketAddr, request: Request<Body>) -> anyhow::Result<Reply> {
    let open = match conn {
        Some(open) => open,
        None => conn.insert(Conn::http1(via).await?),
    };
    open.send(request).await
}

/// Lists what failed, most frequent first: for the message of a failed assertion.
pub fn failures(outcomes: &[Outcome]) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for failure in outcomes.iter().filter_map(Outcome::failure) {
        *counts.entry(failure).or_insert(0) += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}
