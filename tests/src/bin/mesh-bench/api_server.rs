//! An API server that holds objects in memory: lists in pages, watches that lose nothing, writes. No schema, no admission, no rights.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time};

/// Clones are the same server.
#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

struct Inner {
    addr: SocketAddr,
    state: Mutex<State>,
    /// Follows the newest version.
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By path of the whole collection, such as `/api/v1/pods`.
    collections: HashMap<String, Collection>,
}

#[derive(Default)]
struct Collection {
    /// By `namespace/name`, as JSON.
    objects: BTreeMap<String, Bytes>,
    /// Every event since the start, with its version, as lines of JSON.
    events: Vec<(u64, Bytes)>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Kinds that the operator looks for before it watches them.
const GROUPS: [(&str, &[(&str, &str)]); 2] = [
    ("/apis/gateway.networking.k8s.io/v1", &[("httproutes", "HTTPRoute"), ("grpcroutes", "GRPCRoute")]),
    ("/apis/mesh.dev/v1alpha1", &[("authorizationpolicies", "AuthorizationPolicy")]),
];

/// A real API server ends a watch after the time that was asked for.
const WATCH: Duration = Duration::from_secs(60);

impl ApiServer {
    /// Listens until the process ends.
    pub async fn start() -> Result<ApiServer> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening as API server")?;
        let addr = listener.local_addr()?;
        let server =
            ApiServer(Arc::new(Inner { addr, state: Mutex::default(), version: watch::channel(0).0 }));
        let ours = server.clone();
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let server = ours.clone();
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| server.clone().serve(request));
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(server)
    }

    /// For the operator.
    pub fn kubeconfig(&self) -> String {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{"name": "bench", "cluster": {"server": format!("http://{}", self.0.addr)}}],
            "users": [{"name": "bench", "user": {}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        });
        config.to_string()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates or changes an object and tells who watches.
    pub fn put(&self, collection: &str, mut object: Value) -> Value {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let text = object.to_string();
        let collection = state.collections.entry(collection.to_owned()).or_default();
        let known = collection.objects.insert(key(&object), text.clone().into()).is_some();
        let kind = if known { "MODIFIED" } else { "ADDED" };
        collection.events.push((version, format!("{{\"type\":\"{kind}\",\"object\":{text}}}\n").into()));
        drop(state);
        self.0.version.send_replace(version);
        object
    }

    pub fn get(&self, collection: &str, key: &str) -> Option<Value> {
        let state = self.state();
        let text = state.collections.get(collection)?.objects.get(key)?;
        serde_json::from_slice(text).ok()
    }

    async fn serve(self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let query: HashMap<String, String> = head
            .uri
            .query()
            .into_iter()
            .flat_map(|query| query.split('&'))
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.replace("%2F", "/")))
            .collect();
        let path = head.uri.path();
        if path == "/version" {
            return Ok(reply(200, json!({"major": "1", "minor": "34", "gitVersion": "v1.34.4"})));
        }
        if path.split('/').count() == 4 && path.starts_with("/apis/") {
            return Ok(discovery(path));
        }
        let Some(place) = Place::parse(path) else { return Ok(refusal(404, "NotFound")) };
        Ok(match (&head.method, &place.key) {
            (&Method::GET, None) if query.get("watch").is_some_and(|watch| watch == "true") => {
                self.watch(place, &query)
            }
            (&Method::GET, None) => self.list(&place, &query),
            (&Method::GET, Some(key)) => match self.get(&place.collection, key) {
                Some(object) => reply(200, object),
                None => refusal(404, "NotFound"),
            },
            _ => self.write(&place, serde_json::from_slice(&body).unwrap_or_default()),
        })
    }

    fn list(&self, place: &Place, query: &HashMap<String, String>) -> Answer {
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let after = query.get("continue").cloned().unwrap_or_default();
        let state = self.state();
        let none = BTreeMap::new();
        let objects = state.collections.get(&place.collection).map_or(&none, |known| &known.objects);
        let mut left = objects.iter().filter(|(key, _)| **key > after && place.holds(key));
        let mut items = vec![];
        let mut last = "";
        for (key, object) in left.by_ref().take(limit) {
            items.push(object.as_ref());
            last = key;
        }
        let next = if left.next().is_some() { last } else { "" };
        let metadata = json!({"resourceVersion": state.version.to_string(), "continue": next});
        let head = format!("{{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{metadata},\"items\":[");
        let body = [head.as_bytes(), &items.join(&b','), b"]}"].concat();
        json_of(StatusCode::OK, Full::from(body).boxed_unsync())
    }

    fn watch(&self, place: Place, query: &HashMap<String, String>) -> Answer {
        let since = query.get("resourceVersion").and_then(|since| since.parse().ok()).unwrap_or(0);
        let mut versions = self.0.version.subscribe();
        versions.mark_changed();
        let end = time::Instant::now() + WATCH;
        let server = self.clone();
        let frames = futures_util::stream::unfold((since, versions), move |(since, mut versions)| {
            let (server, place) = (server.clone(), place.clone());
            async move {
                loop {
                    time::timeout_at(end, versions.changed()).await.ok()?.ok()?;
                    let newest = *versions.borrow_and_update();
                    let lines = server.events(&place, since);
                    if !lines.is_empty() {
                        return Some((Ok(Frame::data(lines)), (newest, versions)));
                    }
                }
            }
        });
        json_of(StatusCode::OK, StreamBody::new(frames).boxed_unsync())
    }

    fn events(&self, place: &Place, since: u64) -> Bytes {
        let state = self.state();
        let Some(collection) = state.collections.get(&place.collection) else { return Bytes::new() };
        let first = collection.events.partition_point(|(version, _)| *version <= since);
        match &collection.events[first..] {
            [(_, only)] => only.clone(),
            some => some.iter().map(|(_, line)| line.as_ref()).collect::<Vec<_>>().concat().into(),
        }
    }

    fn write(&self, place: &Place, mut object: Value) -> Answer {
        if !place.namespace.is_empty() {
            object["metadata"]["namespace"] = place.namespace.clone().into();
        }
        reply(201, self.put(&place.collection, object))
    }
}

/// What a path means: a collection, perhaps of one namespace only, or one object of it.
#[derive(Clone)]
struct Place {
    collection: String,
    namespace: String,
    key: Option<String>,
}

impl Place {
    fn parse(path: &str) -> Option<Place> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let prefix = if *parts.first()? == "api" { 2 } else { 3 };
        let (group, rest) = parts.split_at_checked(prefix)?;
        let (namespace, plural, name) = match *rest {
            [plural] => ("", plural, None),
            ["namespaces", namespace, plural] => (namespace, plural, None),
            ["namespaces", namespace, plural, name, ..] => (namespace, plural, Some(name)),
            [plural, name] => ("", plural, Some(name)),
            _ => return None,
        };
        Some(Place {
            collection: format!("/{}/{plural}", group.join("/")),
            namespace: namespace.to_owned(),
            key: name.map(|name| format!("{namespace}/{name}")),
        })
    }

    fn holds(&self, key: &str) -> bool {
        self.namespace.is_empty() || key.split('/').next() == Some(self.namespace.as_str())
    }
}

fn key(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

fn discovery(path: &str) -> Answer {
    let Some((_, kinds)) = GROUPS.iter().find(|(group, _)| *group == path) else {
        return refusal(404, "NotFound");
    };
    let resources = kinds.iter().map(|(plural, kind)| {
        json!({"name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["list", "watch"]})
    });
    let resources: Vec<Value> = resources.collect();
    let group = path.trim_start_matches("/apis/");
    reply(
        200,
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": resources}),
    )
}

fn reply(status: u16, value: Value) -> Answer {
    json_of(StatusCode::from_u16(status).unwrap_or_default(), Full::from(value.to_string()).boxed_unsync())
}

fn refusal(code: u16, reason: &str) -> Answer {
    reply(
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code}),
    )
}

fn json_of(status: StatusCode, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    answer
}
