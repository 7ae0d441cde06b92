//! A small API server for tests: lists, watches, writes and failures by script, no cluster.

mod rights;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;

/// Objects by collection path (`/api/v1/pods`), and who watches them. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer(Arc<Mutex<State>>);

struct State {
    version: u64,
    /// Collection path → `namespace/name` → object. A collection that is not in here is not served.
    collections: BTreeMap<String, BTreeMap<String, Value>>,
    changes: broadcast::Sender<(String, Value)>,
    /// While set, every request fails with this status and every watch has ended.
    away: Option<u16>,
    /// While true, requests are not answered.
    stalled: watch::Sender<bool>,
    /// What was written: method, path, body.
    writes: Vec<(Method, String, Value)>,
    /// Paths to which nothing can be written.
    refused: BTreeSet<String>,
    /// The minor number of its version.
    minor: String,
    /// What a POST to a path is answered with, instead of what was sent.
    replies: BTreeMap<String, Reply>,
}

type Reply = Box<dyn Fn(&Value) -> Value + Send>;
type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl ApiServer {
    /// Serves these collections, empty.
    pub fn new(collections: &[&str]) -> ApiServer {
        let state = State {
            version: 1,
            collections: collections.iter().map(|path| ((*path).to_owned(), BTreeMap::new())).collect(),
            changes: broadcast::channel(100).0,
            away: None,
            stalled: watch::Sender::default(),
            writes: vec![],
            minor: "34".into(),
            replies: BTreeMap::new(),
            refused: BTreeSet::new(),
        };
        ApiServer(Arc::new(Mutex::new(state)))
    }

    pub fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Creates or changes an object.
    pub fn put(&self, collection: &str, mut object: Value) {
        let mut state = self.state();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let objects = state.collections.entry(collection.to_owned()).or_default();
        let known = objects.insert(name(&object), object.clone()).is_some();
        let event = json!({"type": if known { "MODIFIED" } else { "ADDED" }, "object": object});
        let _ = state.changes.send((collection.to_owned(), event));
    }

    pub fn delete(&self, collection: &str, key: &str) {
        let mut state = self.state();
        state.version += 1;
        let mut object = state.collections.get_mut(collection).unwrap().remove(key).unwrap();
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let _ = state.changes.send((collection.to_owned(), json!({"type": "DELETED", "object": object})));
    }

    /// An object as it is now: `namespace/name`.
    pub fn object(&self, collection: &str, key: &str) -> Value {
        self.state().collections[collection][key].clone()
    }

    /// What was patched or created at a path, in order.
    pub fn written(&self, path: &str) -> Vec<Value> {
        let state = self.state();
        state.writes.iter().filter(|(_, at, _)| at == path).map(|(_, _, body)| body.clone()).collect()
    }

    /// Makes it an API server of this version: 1.`minor`.
    pub fn version(&self, minor: &str) {
        self.state().minor = minor.to_owned();
    }

    /// Answers every creation there with this object from now on.
    pub fn reply(&self, path: &str, object: Value) {
        self.decide(path, move |_| object.clone());
    }

    /// Answers every creation there with what this makes of it.
    pub fn decide(&self, path: &str, reply: impl Fn(&Value) -> Value + Send + 'static) {
        self.state().replies.insert(path.to_owned(), Box::new(reply));
    }

    /// Refuses what is written to a path until it may be.
    pub fn refuse(&self, path: &str, refused: bool) {
        let paths = &mut self.state().refused;
        match refused {
            true => paths.insert(path.to_owned()),
            false => paths.remove(path),
        };
    }

    /// Ends all watches, and fails every request until `None`.
    pub fn away(&self, status: Option<u16>) {
        let mut state = self.state();
        state.away = status;
        state.changes = broadcast::channel(100).0;
    }

    /// Leaves every request without an answer until `false`.
    pub fn stall(&self, stalled: bool) {
        self.state().stalled.send_replace(stalled);
    }

    /// Sends an event to all watches of a collection, such as the end of what can be resumed.
    pub fn tell(&self, collection: &str, event: Value) {
        let _ = self.state().changes.send((collection.to_owned(), event));
    }

    fn answer(&self, method: &Method, uri: &http::Uri, body: Value) -> Answer {
        let mut state = self.state();
        if let Some(status) = state.away {
            return status_of(status, "Unavailable");
        }
        let path = uri.path().to_owned();
        if path == "/version" {
            let mut version = k8s_openapi::apimachinery::pkg::version::Info::default();
            (version.major, version.minor) = ("1".into(), state.minor.clone());
            return json_of(StatusCode::OK, &json!(version));
        }
        if !rights::allow(method, uri) {
            return status_of(403, &format!("the chart gives no right to {method} {uri}"));
        }
        if *method != Method::GET && state.refused.contains(&path) {
            return status_of(403, "Forbidden");
        }
        if let Some(object) = single(&state, &path) {
            if *method == Method::GET {
                return json_of(StatusCode::OK, &object);
            }
            if *method == Method::PUT {
                drop(state);
                let (collection, _) = path.rsplit_once('/').expect("an object's path");
                self.put(collection, body.clone());
                return json_of(StatusCode::OK, &body);
            }
        }
        if method != Method::GET {
            let reply = state.replies.get(&path).filter(|_| method == Method::POST);
            let reply = reply.map_or_else(|| body.clone(), |reply| reply(&body));
            state.writes.push((method.clone(), path, body));
            return json_of(StatusCode::OK, &reply);
        }
        if let Some(group) = path.strip_prefix("/apis/").filter(|rest| rest.matches('/').count() == 1) {
            return discovery(group, &state);
        }
        let Some(objects) = state.collections.get(&path) else { return status_of(404, "NotFound") };
        if uri.query().is_some_and(|query| query.contains("watch=true")) {
            let changes = BroadcastStream::new(state.changes.subscribe());
            let lines = changes.filter_map(move |change| {
                let line = change.ok().filter(|(of, _)| *of == path).map(|(_, event)| format!("{event}\n"));
                ready(line.map(|line| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(line)))))
            });
            return Response::new(StreamBody::new(lines).boxed_unsync());
        }
        let asked = |name: &str| {
            let pair = uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name))?;
            pair.parse::<usize>().ok()
        };
        let (from, limit) = (asked("continue=").unwrap_or(0), asked("limit=").unwrap_or(usize::MAX));
        let items: Vec<&Value> = objects.values().skip(from).take(limit).collect();
        let next = from + items.len();
        let next = if next < objects.len() { next.to_string() } else { String::new() };
        let metadata = json!({"resourceVersion": state.version.to_string(), "continue": next});
        json_of(
            StatusCode::OK,
            &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}),
        )
    }
}

/// The object that stands at a path of its own.
fn single(state: &State, path: &str) -> Option<Value> {
    let (collection, name) = path.rsplit_once('/')?;
    let objects = state.collections.get(collection)?;
    objects.values().find(|object| object["metadata"]["name"] == name).cloned()
}

/// The kinds of a group's version, by the collections that are served.
fn discovery(group: &str, state: &State) -> Answer {
    let prefix = format!("/apis/{group}/");
    let kind = |plural: &str| match plural {
        "httproutes" => "HTTPRoute",
        "grpcroutes" => "GRPCRoute",
        _ => "AuthorizationPolicy",
    };
    let resources: Vec<Value> = state
        .collections
        .keys()
        .filter_map(|path| path.strip_prefix(&prefix))
        .map(|plural| json!({"name": plural, "singularName": "", "namespaced": true, "kind": kind(plural), "verbs": ["list", "watch"]}))
        .collect();
    match resources.is_empty() {
        true => not_served(),
        false => json_of(
            StatusCode::OK,
            &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": resources}),
        ),
    }
}

fn name(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

fn json_of(status: StatusCode, value: &Value) -> Answer {
    let body = Full::from(value.to_string()).boxed_unsync();
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

/// As the API server says it of a group that it does not know: without an object.
fn not_served() -> Answer {
    let body = Full::new(Bytes::from_static(b"404 page not found\n"));
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = StatusCode::NOT_FOUND;
    answer
}

fn status_of(code: u16, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code});
    json_of(StatusCode::from_u16(code).unwrap(), &status)
}

impl tower_service::Service<Request<Body>> for ApiServer {
    type Response = Answer;
    type Error = Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        let mut stalled = self.state().stalled.subscribe();
        Box::pin(async move {
            stalled.wait_for(|stalled| !stalled).await.unwrap();
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Ok(server.answer(&head.method, &head.uri, serde_json::from_slice(&body).unwrap_or_default()))
        })
    }
}
