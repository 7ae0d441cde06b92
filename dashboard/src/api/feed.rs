//! The page's one stream of server-sent events: opened by the page that is shown, closed while nobody looks,
//! and opened again, with growing pauses, after it was cut.
//!
//! One per tab, because over HTTP/1.1 a browser opens only six connections to one host.

use crate::{
    api::fetch::{self, Failure},
    clock,
};
use leptos::{leptos_dom::helpers::TimeoutHandle, prelude::*};
use mesh_api::stream::Hello;
use serde::de::DeserializeOwned;
use std::{rc::Rc, time::Duration};
use wasm_bindgen::{JsCast, closure::Closure};
use web_sys::{EventSource, MessageEvent};

/// A tab that is hidden for longer than this gives its connection back.
const HIDDEN_GRACE: Duration = Duration::from_secs(15);
const RETRY_FIRST_S: u32 = 1;
const RETRY_MOST_S: u32 = 8;

/// How the stream is.
#[derive(Clone, Debug, PartialEq)]
pub enum Link {
    /// This page needs none.
    Idle,
    Connecting,
    Live,
    /// Cut; the next try is at this Unix millisecond.
    Lost {
        retry_at_ms: f64,
    },
    /// The operator does not have what the page asks for, and says why.
    Refused(String),
}

/// State of the stream, shared by the whole page.
#[derive(Clone, Copy)]
pub struct Feed {
    pub link: RwSignal<Link>,
    pub paused: RwSignal<bool>,
    /// When the newest event arrived.
    pub data_at_ms: RwSignal<Option<f64>>,
    /// Whether the operator serves another build of this dashboard than the one that runs here.
    pub outdated: RwSignal<bool>,
    asleep: RwSignal<bool>,
    /// Counts up to open the stream anew.
    attempt: RwSignal<u32>,
    /// Tries since the last event.
    failures: RwSignal<u32>,
}

/// Called with the text of each event of one name.
type Handler = (&'static str, Box<dyn Fn(&str)>);

pub fn start() -> Feed {
    let feed = Feed {
        link: RwSignal::new(Link::Idle),
        paused: RwSignal::new(false),
        data_at_ms: RwSignal::new(None),
        outdated: RwSignal::new(false),
        // A tab opened in the background waits until it is looked at.
        asleep: RwSignal::new(document().hidden()),
        attempt: RwSignal::new(0),
        failures: RwSignal::new(0),
    };
    let timer: StoredValue<Option<TimeoutHandle>> = StoredValue::new(None);
    let on_change = Closure::<dyn Fn()>::new(move || {
        if let Some(timer) = timer.try_update_value(Option::take).flatten() {
            timer.clear();
        }
        if document().hidden() {
            let handle = set_timeout_with_handle(move || feed.asleep.set(true), HIDDEN_GRACE);
            timer.set_value(handle.ok());
        } else {
            feed.asleep.set(false);
        }
    });
    // Adding a listener to the document cannot fail.
    let _ =
        document().add_event_listener_with_callback("visibilitychange", on_change.as_ref().unchecked_ref());
    on_change.forget();
    feed
}

impl Feed {
    /// Whether anybody wants new data.
    pub fn awake(self) -> bool {
        !self.asleep.get() && !self.paused.get()
    }

    /// Tries again at once.
    pub fn retry_now(self) {
        self.attempt.update(|n| *n += 1);
    }

    /// Follows one resource for as long as the calling component lives. `path` is the resource's, without `/stream`.
    pub fn follow<T>(self, event: &'static str, path: impl Fn() -> String + 'static) -> RwSignal<Option<T>>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        let value = RwSignal::new(None);
        self.subscribe(path, vec![(event, self.store(value))]);
        value
    }

    /// A handler that keeps the newest value.
    fn store<T>(self, value: RwSignal<Option<T>>) -> Box<dyn Fn(&str)>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        self.read(move |new| {
            value.try_set(Some(new));
        })
    }

    /// A handler that reads each value.
    pub fn read<T: DeserializeOwned>(self, take: impl Fn(T) + 'static) -> Box<dyn Fn(&str)> {
        Box::new(move |text| match serde_json::from_str(text) {
            Ok(new) => take(new),
            Err(error) => self.link.set(Link::Refused(fetch::unreadable("stream", &error))),
        })
    }

    pub fn subscribe(self, path: impl Fn() -> String + 'static, handlers: Vec<Handler>) {
        let handlers = Rc::new(handlers);
        self.data_at_ms.set(None);
        self.failures.set(0);
        self.link.set(Link::Connecting);
        Effect::new(move |_| {
            self.attempt.track();
            let path = path();
            if !self.awake() {
                return;
            }
            // Belongs to this run of the effect: dropped, and with it closed, before the next run and with the page.
            StoredValue::new_local(Connection::open(self, path, Rc::clone(&handlers)));
        });
        on_cleanup(move || self.link.set(Link::Idle));
    }

    fn received(self) {
        self.failures.set(0);
        self.data_at_ms.set(Some(clock::now_ms()));
        if self.link.get_untracked() != Link::Live {
            self.link.set(Link::Live);
        }
    }

    fn hello(self, text: &str) {
        let Ok(hello) = serde_json::from_str::<Hello>(text) else { return };
        self.outdated.set(!hello.build.is_empty() && own_build().is_some_and(|own| own != hello.build));
    }
}

/// Hash of the dashboard that runs here, as the build wrote it into the page.
fn own_build() -> Option<String> {
    document().query_selector("meta[name=mesh-build]").ok()??.get_attribute("content")
}

/// An open stream; closes when dropped.
struct Connection {
    source: Option<EventSource>,
    listeners: Vec<Closure<dyn FnMut(MessageEvent)>>,
    on_error: Option<Closure<dyn FnMut()>>,
    retry: Rc<std::cell::Cell<Option<TimeoutHandle>>>,
}

impl Connection {
    fn open(feed: Feed, path: String, handlers: Rc<Vec<Handler>>) -> Connection {
        let mut connection =
            Connection { source: None, listeners: vec![], on_error: None, retry: Rc::default() };
        let Ok(source) = EventSource::new(&stream_of(&path)) else {
            feed.link.set(Link::Refused(format!("{path}: not an address")));
            return connection;
        };
        connection.listen(&source, "hello", move |text| feed.hello(text));
        for index in 0..handlers.len() {
            let handlers = Rc::clone(&handlers);
            connection.listen(&source, handlers[index].0, move |text| {
                handlers[index].1(text);
                feed.received();
            });
        }
        let retry = Rc::clone(&connection.retry);
        let failed = source.clone();
        let on_error = Closure::<dyn FnMut()>::new(move || {
            // The browser would try again by itself, but neither says when nor slows down.
            failed.close();
            let delay_s = (RETRY_FIRST_S << feed.failures.get_untracked().min(3)).min(RETRY_MOST_S);
            feed.failures.update(|n| *n += 1);
            feed.link.set(Link::Lost { retry_at_ms: clock::now_ms() + f64::from(delay_s) * 1_000.0 });
            let handle =
                set_timeout_with_handle(move || feed.retry_now(), Duration::from_secs(delay_s.into()));
            retry.set(handle.ok());
            wasm_bindgen_futures::spawn_local(explain(feed, path.clone()));
        });
        source.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        connection.on_error = Some(on_error);
        connection.source = Some(source);
        connection
    }

    fn listen(&mut self, source: &EventSource, event: &str, handle: impl Fn(&str) + 'static) {
        let listener = Closure::<dyn FnMut(MessageEvent)>::new(move |message: MessageEvent| {
            if let Some(text) = message.data().as_string() {
                handle(&text);
            }
        });
        // Adding a listener to a fresh event source cannot fail.
        let _ = source.add_event_listener_with_callback(event, listener.as_ref().unchecked_ref());
        self.listeners.push(listener);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(source) = &self.source {
            source.set_onerror(None);
            source.close();
        }
        if let Some(retry) = self.retry.take() {
            retry.clear();
        }
    }
}

/// An event source does not tell why it failed; the plain resource does.
async fn explain(feed: Feed, path: String) {
    if let Err(Failure::Refused(why)) = fetch::get::<serde::de::IgnoredAny>(&path).await
        && matches!(feed.link.get_untracked(), Link::Lost { .. })
    {
        feed.link.set(Link::Refused(why));
    }
}

/// `api/v1/graph?window=1m` is streamed at `api/v1/graph/stream?window=1m`.
fn stream_of(path: &str) -> String {
    match path.split_once('?') {
        Some((path, query)) => format!("{path}/stream?{query}"),
        None => format!("{path}/stream"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_a_resource() {
        assert_eq!(stream_of("api/v1/graph?window=1m"), "api/v1/graph/stream?window=1m");
        assert_eq!(stream_of("api/v1/checks"), "api/v1/checks/stream");
    }
}
