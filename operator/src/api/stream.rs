//! Live views by server-sent events. Each view is computed and encoded once a second for all of its viewers; a viewer that
//! cannot keep up skips to the newest picture, so nothing queues. A client that comes back with `Last-Event-ID` gets, like
//! every other, the whole present.

use super::{
    Dashboard,
    app::{Answer, App},
    login::Seen,
    refusal::Refusal,
    sight::Sight,
    view::View,
};
use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures_util::stream;
use http::{HeaderValue, header};
use mesh_api::stream::Hello;
use std::{
    collections::HashMap,
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{self, MissedTickBehavior},
};

const TICK: Duration = Duration::from_secs(1);
/// A comment after this long without an event, so that proxies in between do not think the stream dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Different views that are computed at the same time.
const MAX_VIEWS: usize = 64;
const MAX_VIEWERS: usize = 256;

/// The newest picture of a view, as the bytes of its events.
#[derive(Clone, Debug)]
struct Picture {
    /// For the graph: version and event of its topology.
    topology: Option<(u64, Bytes)>,
    event: Bytes,
    fingerprint: u64,
}

/// Who may see the same sees the same picture.
type Views = HashMap<(View, Sight), Arc<watch::Sender<Picture>>>;

#[derive(Debug)]
pub struct Hub {
    app: Arc<App>,
    views: Mutex<Views>,
    viewers: Arc<Semaphore>,
}

impl Hub {
    pub fn new(app: Arc<App>) -> Hub {
        Hub { app, views: Mutex::default(), viewers: Arc::new(Semaphore::new(MAX_VIEWERS)) }
    }

    pub fn app(&self) -> Arc<App> {
        self.app.clone()
    }

    pub fn dashboard(&self) -> &Dashboard {
        &self.app.config.dashboard
    }

    /// The response that streams a view.
    pub async fn stream(self: Arc<Hub>, view: View, seen: Seen) -> Result<Response, Refusal> {
        let permit = self.viewers.clone().try_acquire_owned().map_err(|_| {
            Refusal::busy(format!("{MAX_VIEWERS} streams are open: close some, or ask again without /stream"))
        })?;
        let pictures = self.subscribe((view, seen.sight)).await?;
        let hello =
            Hello { build: self.app.config.dashboard.build(), version: self.app.config.version.clone() };
        let hello = serde_json::to_vec(&hello).expect("a greeting has only plain fields");
        let viewer = Viewer {
            pictures,
            _permit: permit,
            next: Next::Hello(event("hello", None, &hello)),
            topology: None,
            until: seen.until.map(Into::into),
        };
        let body = Body::from_stream(stream::unfold(viewer, Viewer::step));
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }

    async fn subscribe(self: &Arc<Hub>, view: (View, Sight)) -> Result<watch::Receiver<Picture>, Refusal> {
        if let Some(sender) = self.views().get(&view) {
            return Ok(sender.subscribe());
        }
        let first = self.compute(view.clone()).await?;
        let mut views = self.views();
        if let Some(sender) = views.get(&view) {
            return Ok(sender.subscribe());
        }
        if views.len() >= MAX_VIEWS {
            return Err(Refusal::busy(format!(
                "{MAX_VIEWS} different views are streamed already: ask again without /stream"
            )));
        }
        let (sender, receiver) = watch::channel(first);
        let sender = Arc::new(sender);
        views.insert(view.clone(), sender.clone());
        tokio::spawn(self.clone().run(view, sender));
        Ok(receiver)
    }

    /// Renews one view's picture every second. Ends with its last viewer.
    async fn run(self: Arc<Hub>, view: (View, Sight), sender: Arc<watch::Sender<Picture>>) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            {
                // Under the lock, so that nobody subscribes to a view that is about to end.
                let mut views = self.views();
                if sender.receiver_count() == 0 {
                    views.remove(&view);
                    return;
                }
            }
            // An object that is gone (a deleted workload) leaves its last picture standing until it is back.
            let Ok(picture) = self.compute(view.clone()).await else { continue };
            sender.send_if_modified(|now| {
                let changed = now.fingerprint != picture.fingerprint;
                if changed {
                    *now = picture;
                }
                changed
            });
        }
    }

    async fn compute(&self, (view, sight): (View, Sight)) -> Result<Picture, Refusal> {
        let app = self.app.clone();
        let name = view.event();
        let answer = answer(app, view, sight).await?;
        let fingerprint = fingerprint(&answer);
        Ok(match answer {
            Answer::Whole(json) => Picture { topology: None, event: event(name, None, &json), fingerprint },
            Answer::Graph { version, topology, metrics } => Picture {
                topology: Some((version, event("topology", Some(version), &topology))),
                event: event(name, None, &metrics),
                fingerprint,
            },
        })
    }

    fn views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Computes off the thread that serves connections: the first layout of a large mesh takes tens of milliseconds.
pub async fn answer(app: Arc<App>, view: View, sight: Sight) -> Result<Answer, Refusal> {
    let answer = tokio::task::spawn_blocking(move || app.answer(&view, &sight, crate::telemetry::now_ms()));
    answer.await.unwrap_or_else(|error| {
        tracing::error!(%error, "computing a view failed");
        Err(Refusal {
            status: http::StatusCode::INTERNAL_SERVER_ERROR,
            error: "computing the answer failed".into(),
        })
    })
}

/// Of the content without its time: a new second with the same figures is no change. `at_ms` leads where it is there; the
/// graph's stands later, since its metrics are sent every second.
fn fingerprint(answer: &Answer) -> u64 {
    let json: &[u8] = match answer {
        Answer::Whole(json) => json,
        Answer::Graph { metrics, .. } => metrics,
    };
    let rest = match json.strip_prefix(br#"{"at_ms":"#) {
        Some(rest) => &rest[rest.iter().position(|&b| b == b',').unwrap_or(0)..],
        None => json,
    };
    let mut hasher = DefaultHasher::new();
    rest.hash(&mut hasher);
    hasher.finish()
}

/// JSON has no line break of its own, so one `data` line holds it.
fn event(name: &str, id: Option<u64>, json: &[u8]) -> Bytes {
    let mut text = format!("event: {name}\n").into_bytes();
    if let Some(id) = id {
        text.extend(format!("id: {id}\n").into_bytes());
    }
    text.extend(b"data: ");
    text.extend(json);
    text.extend(b"\n\n");
    text.into()
}

struct Viewer {
    pictures: watch::Receiver<Picture>,
    _permit: OwnedSemaphorePermit,
    next: Next,
    /// Version of the topology that was sent last.
    topology: Option<u64>,
    /// Then whoever looks has to show again that they may.
    until: Option<time::Instant>,
}

enum Next {
    Hello(Bytes),
    /// The present picture, at once.
    Present,
    /// The second part of a picture whose topology was just sent.
    Rest(Bytes),
    Change,
}

impl Viewer {
    async fn step(mut self) -> Option<(Result<Bytes, Infallible>, Viewer)> {
        match std::mem::replace(&mut self.next, Next::Change) {
            Next::Hello(hello) => {
                self.next = Next::Present;
                return Some((Ok(hello), self));
            }
            Next::Rest(rest) => return Some((Ok(rest), self)),
            Next::Present => {}
            Next::Change if self.until.is_some_and(|until| time::Instant::now() >= until) => return None,
            Next::Change => match time::timeout(KEEP_ALIVE, self.pictures.changed()).await {
                Err(_) => return Some((Ok(Bytes::from_static(b":\n\n")), self)),
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {}
            },
        }
        let picture = self.pictures.borrow_and_update().clone();
        match picture.topology {
            Some((version, topology)) if self.topology != Some(version) => {
                self.topology = Some(version);
                self.next = Next::Rest(picture.event);
                Some((Ok(topology), self))
            }
            _ => Some((Ok(picture.event), self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(version: u64, number: u64) -> Picture {
        let topology = Some((version, Bytes::from(format!("topology {version}"))));
        Picture { topology, event: Bytes::from(format!("metrics {number}")), fingerprint: number }
    }

    #[tokio::test]
    async fn a_viewer_that_was_away_skips_to_the_newest_picture() {
        let (sender, pictures) = watch::channel(picture(1, 1));
        let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let mut viewer = Viewer {
            pictures,
            _permit: permit,
            next: Next::Hello(Bytes::from_static(b"hello")),
            topology: None,
            until: None,
        };
        let mut seen = Vec::new();
        for i in 0..6 {
            // While the third event is on its way, a hundred pictures pass.
            if i == 3 {
                (2..=100).for_each(|number| drop(sender.send_replace(picture(1 + number / 100, number))));
            }
            if i == 5 {
                sender.send_replace(picture(2, 101));
            }
            let (event, next) = viewer.step().await.unwrap();
            seen.push(String::from_utf8(event.unwrap().to_vec()).unwrap());
            viewer = next;
        }
        assert_eq!(seen, ["hello", "topology 1", "metrics 1", "topology 2", "metrics 100", "metrics 101"]);
        drop(sender);
        assert!(viewer.step().await.is_none());
    }

    #[test]
    fn the_time_alone_is_no_change() {
        let answer = |json: &str| Answer::Whole(Bytes::copy_from_slice(json.as_bytes()));
        let same = |a: &str, b: &str| fingerprint(&answer(a)) == fingerprint(&answer(b));
        assert!(same(r#"{"at_ms":1,"x":1}"#, r#"{"at_ms":22,"x":1}"#));
        assert!(!same(r#"{"at_ms":1,"x":1}"#, r#"{"at_ms":1,"x":2}"#));
    }
}
