//! One discovery stream, for as long as somebody wants it: subscribe, publish what changed, subscribe again when it ends.
//! The last good value stays while the control plane is away or talks nonsense.

use super::backoff::Backoff;
use std::{cell::Cell, convert::Infallible, error::Error as _, fmt, time::Duration};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tonic::{Code, Status, Streaming};
use tracing::{debug, warn};

/// Streams that broke are asked for again between these.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_millis(1500);
/// A question that was refused is asked again between these: what it asks about may come to exist.
const REFUSED_MIN: Duration = Duration::from_millis(500);
const REFUSED_MAX: Duration = Duration::from_secs(5);

/// What is watched: one kind of question, its answers, and what they mean. Its text names it in logs.
pub trait Subject: fmt::Display {
    type Message;
    type Value;

    async fn subscribe(&mut self) -> Result<Streaming<Self::Message>, Status>;

    /// A message of the newest stream. `Ok(None)`: nothing changed. An error leaves the subject as it was.
    fn received(&mut self, message: Self::Message, now: &Self::Value) -> Result<Option<Self::Value>, String>;

    /// What to publish after a failure; `None` keeps what there is.
    fn failed(&self, failure: &Failure, now: &Self::Value) -> Option<Self::Value>;
}

#[derive(Debug)]
pub enum Failure {
    /// There is no such thing.
    NotFound,
    /// The control plane does not know this kind of question.
    Unsupported,
    /// The control plane says no, whenever it is asked.
    Refused(String),
    /// Its message makes no sense.
    Nonsense(String),
}

#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the first message of a stream.
    pub initial_timeout: Duration,
    /// A stream is asked for anew after this long.
    pub lifetime: Option<Duration>,
    /// How long a watch without receivers goes on, while the control plane is there to be asked again.
    pub idle: Duration,
}

/// How a watch is doing.
#[derive(Debug, Default)]
struct Health {
    /// It has an answer, good or bad.
    answered: Cell<bool>,
    /// The control plane spoke last: by a stream that goes on, or by a refusal.
    reachable: Cell<bool>,
}

impl Health {
    /// An answer that could not be had again is not thrown away.
    fn can_be_forgotten(&self) -> bool {
        self.reachable.get() || !self.answered.get()
    }
}

/// Why a stream ended.
#[derive(Debug)]
enum End {
    Closed,
    Silent,
    Lifetime,
    Failed(Status),
}

/// Returns when nobody has wanted it for the idle time.
pub async fn follow<S: Subject>(mut subject: S, publish: &watch::Sender<S::Value>, patience: Patience) {
    let name = subject.to_string();
    let health = Health::default();
    tokio::select! {
        () = unused(publish, patience.idle, &health) => debug!(name, "not used any more"),
        never = keep(&mut subject, publish, patience, &health) => match never {},
    }
}

async fn unused<T>(publish: &watch::Sender<T>, idle: Duration, health: &Health) {
    loop {
        publish.closed().await;
        time::sleep(idle).await;
        if publish.receiver_count() == 0 && health.can_be_forgotten() {
            return;
        }
    }
}

async fn keep<S: Subject>(
    subject: &mut S,
    publish: &watch::Sender<S::Value>,
    patience: Patience,
    health: &Health,
) -> Infallible {
    let mut retry = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut refused = Backoff::new(REFUSED_MIN, REFUSED_MAX);
    let mut complained = false;
    loop {
        let started = Instant::now();
        let end = stream(subject, publish, patience, health).await;
        health.reachable.set(matches!(&end, End::Failed(status) if refusal(status).is_some()));
        if started.elapsed() > RETRY_MAX {
            retry.reset();
            refused.reset();
            complained = false;
        }
        tell(subject, &end, &mut complained);
        let delay = match &end {
            End::Failed(status) if let Some(failure) = refusal(status) => {
                report(subject, &failure, publish);
                refused.delay(fastrand::f64())
            }
            End::Failed(_) | End::Closed | End::Silent | End::Lifetime => retry.delay(fastrand::f64()),
        };
        time::sleep(delay).await;
    }
}

fn tell(subject: &impl Subject, end: &End, complained: &mut bool) {
    match end {
        // What the connection did has a source, what the control plane says has none. The channel speaks for all streams
        // when the connection cannot be had again.
        End::Failed(status) if status.source().is_some() => {
            debug!(watch = %subject, message = status.message(), "discovery stream lost; keeping what is known");
        }
        // An everyday answer: whoever asked knows what to do with it.
        End::Failed(status) if status.code() == Code::NotFound => {
            debug!(watch = %subject, message = status.message(), "the control plane does not know it");
        }
        End::Failed(status) if *complained => {
            debug!(watch = %subject, code = ?status.code(), "discovery stream failed again");
        }
        End::Failed(status) => {
            *complained = true;
            warn!(watch = %subject, code = ?status.code(), message = status.message(), "discovery stream failed; keeping what is known");
        }
        End::Closed => debug!(watch = %subject, "discovery stream closed; asking again"),
        End::Silent => debug!(watch = %subject, "discovery stream without an answer; asking again"),
        End::Lifetime => debug!(watch = %subject, "discovery stream is old; asking again"),
    }
}

/// One stream, from subscription to end.
async fn stream<S: Subject>(
    subject: &mut S,
    publish: &watch::Sender<S::Value>,
    patience: Patience,
    health: &Health,
) -> End {
    let first_by = Instant::now() + patience.initial_timeout;
    let mut messages = match time::timeout_at(first_by, subject.subscribe()).await {
        Ok(Ok(messages)) => messages,
        Ok(Err(status)) => return End::Failed(status),
        Err(_) => return End::Silent,
    };
    let Ok(mut message) = time::timeout_at(first_by, messages.message()).await else { return End::Silent };
    let end = patience.lifetime.map(|lifetime| Instant::now() + lifetime);
    loop {
        match message {
            Ok(Some(message)) => {
                health.reachable.set(true);
                health.answered.set(true);
                receive(subject, message, publish);
            }
            Ok(None) => return End::Closed,
            Err(status) => return End::Failed(status),
        }
        message = match end {
            None => messages.message().await,
            Some(end) => match time::timeout_at(end, messages.message()).await {
                Ok(message) => message,
                Err(_) => return End::Lifetime,
            },
        };
    }
}

fn receive<S: Subject>(subject: &mut S, message: S::Message, publish: &watch::Sender<S::Value>) {
    let next = subject.received(message, &publish.borrow());
    match next {
        Ok(Some(value)) => {
            publish.send_replace(value);
        }
        Ok(None) => {}
        Err(reason) => {
            warn!(watch = %subject, reason, "message of the control plane is not usable; keeping what is known");
            report(subject, &Failure::Nonsense(reason), publish);
        }
    }
}

fn report<S: Subject>(subject: &S, failure: &Failure, publish: &watch::Sender<S::Value>) {
    let next = subject.failed(failure, &publish.borrow());
    if let Some(value) = next {
        publish.send_replace(value);
    }
}

/// The codes with which the control plane speaks about the question; all others are about its own state.
fn refusal(status: &Status) -> Option<Failure> {
    match status.code() {
        Code::NotFound => Some(Failure::NotFound),
        Code::Unimplemented => Some(Failure::Unsupported),
        Code::InvalidArgument | Code::FailedPrecondition => {
            Some(Failure::Refused(status.message().to_owned()))
        }
        _ => None,
    }
}
