//! A small API server for the command line: holds objects, lists them by label, takes what is applied and deleted. What it makes is
//! ready at once. No cluster, no certificate.

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

pub struct ApiServer {
    state: Arc<Mutex<State>>,
    dir: TempDir,
    pub url: String,
}

pub struct State {
    /// Path → object.
    objects: BTreeMap<String, Value>,
    /// Kinds (`pods`) that this user may not create.
    pub forbidden: BTreeSet<String>,
    pub minor: u32,
    /// Whether nobody is let in.
    pub refuses: bool,
    /// How far its clock is ahead.
    pub ahead: Duration,
    /// Annotations that somebody puts on new Pods.
    pub injected: Value,
    /// Why no Pod can be made: a webhook that has to answer does not.
    pub unanswered: Option<String>,
    /// What it was asked for as an HTTP proxy; everything is itself.
    pub tunnels: Vec<String>,
}

impl ApiServer {
    pub fn with(objects: &[Value]) -> ApiServer {
        let state = State {
            objects: objects.iter().map(|object| (path(object), object.clone())).collect(),
            forbidden: BTreeSet::new(),
            minor: 34,
            refuses: false,
            ahead: Duration::ZERO,
            injected: json!({ "mesh.dev/inject-status": "injected" }),
            unanswered: None,
            tunnels: vec![],
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dir = TempDir::new().unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = ApiServer { state: Arc::new(Mutex::new(state)), dir, url };
        server.is_reached_by(json!({ "server": server.url }));
        let state = server.state.clone();
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = state.clone();
                thread::spawn(move || serve(&stream.unwrap(), &state));
            }
        });
        server
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// Writes the kubeconfig, with this for its cluster.
    pub fn is_reached_by(&self, cluster: Value) {
        let config = json!({
            "clusters": [{ "name": "c", "cluster": cluster }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
            "users": [{ "name": "u", "user": { "token": "t" } }],
            "current-context": "c",
        });
        fs::write(self.kubeconfig(), config.to_string()).unwrap();
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    pub fn has(&self, object: &Value) -> bool {
        self.get(object).is_some()
    }

    pub fn get(&self, object: &Value) -> Option<Value> {
        self.state.lock().unwrap().objects.get(&path(object)).cloned()
    }
}

/// Requests of one connection, until its end.
fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut head = vec![];
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_ascii_lowercase());
            if head.len() == 1 {
                head[0] = line.trim().to_owned();
            }
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length:"));
        let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
        reader.read_exact(&mut body).unwrap();
        let mut words = head[0].split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut state = state.lock().unwrap();
        if method == "CONNECT" {
            state.tunnels.push(target.to_owned());
            drop(state);
            writer.write_all(b"HTTP/1.1 200 X\r\n\r\n").unwrap();
            continue;
        }
        let (status, answer) = state.answer(method, target, body);
        let date = httpdate::fmt_http_date(SystemTime::now() + state.ahead);
        drop(state);
        let answer = answer.to_string();
        let length = answer.len();
        let head = format!(
            "HTTP/1.1 {status} X\r\ndate: {date}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        if writer.write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

impl State {
    /// Deletes what has a path that ends so.
    pub fn forget(&mut self, end: &str) {
        self.objects.retain(|path, _| !path.ends_with(end));
    }

    fn answer(&mut self, method: &str, target: &str, body: Value) -> (u16, Value) {
        if self.refuses {
            return status(401, "who are you");
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let last = path.rsplit('/').next().unwrap_or_default();
        match (method, path) {
            ("GET", "/version") => {
                return (
                    200,
                    json!({ "major": "1", "minor": self.minor.to_string(), "gitVersion": format!("v1.{}.0", self.minor), "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "" }),
                );
            }
            ("GET", "/apis") => {
                let version = json!({ "groupVersion": "gateway.networking.k8s.io/v1", "version": "v1" });
                return (
                    200,
                    json!({ "groups": [{ "name": "gateway.networking.k8s.io", "versions": [version] }] }),
                );
            }
            ("POST", _) if last == "selfsubjectaccessreviews" => {
                let asked = body["spec"]["resourceAttributes"]["resource"].as_str().unwrap().to_owned();
                let mut review = body;
                review["status"] = json!({ "allowed": !self.forbidden.contains(&asked) });
                return (201, review);
            }
            ("POST", _) => {
                if let Some(why) = self.unanswered.as_ref().filter(|_| last == "pods") {
                    return status(500, why);
                }
                let mut made = body;
                for (key, value) in self.injected.as_object().unwrap() {
                    made["metadata"]["annotations"][key] = value.clone();
                }
                return (201, made);
            }
            ("PATCH", _) => {
                let mut made = body;
                let spec = made["spec"].clone();
                made["metadata"]["resourceVersion"] = "1".into();
                match made["kind"].as_str().unwrap_or_default() {
                    "Deployment" => {
                        let count = &spec["replicas"];
                        made["status"] = json!({ "replicas": count, "updatedReplicas": count, "availableReplicas": count });
                    }
                    "CustomResourceDefinition" => {
                        made["status"] =
                            json!({ "conditions": [{ "type": "Established", "status": "True" }] });
                    }
                    // The operator writes it, as soon as one leads.
                    "MutatingWebhookConfiguration" => {
                        for webhook in made["webhooks"].as_array_mut().unwrap() {
                            webhook["clientConfig"]["caBundle"] = "YQ==".into();
                        }
                    }
                    _ => {}
                }
                self.objects.insert(path.to_owned(), made.clone());
                return (200, made);
            }
            ("DELETE", _) => {
                if let Some(gone) = self.objects.remove(path) {
                    return (200, gone);
                }
            }
            _ => {}
        }
        if let Some(object) = self.objects.get(path) {
            return (200, object.clone());
        }
        match collection(path) {
            Some(namespace) if method == "GET" => (200, self.list(last, namespace, query)),
            _ => status(404, &format!("{path} not found")),
        }
    }

    fn list(&self, plural: &str, namespace: Option<&str>, query: &str) -> Value {
        let chosen = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)).map(decoded);
        let (labels, fields) = (chosen("labelSelector="), chosen("fieldSelector="));
        let fits = |(path, object): &(&String, &Value)| {
            let metadata = &object["metadata"];
            path.rsplit('/').nth(1) == Some(plural)
                && namespace.is_none_or(|namespace| metadata["namespace"] == namespace)
                && labels.iter().flat_map(|labels| labels.split(',')).all(|label| {
                    match label.split_once('=') {
                        Some((key, value)) => metadata["labels"][key] == value,
                        None => !metadata["labels"][label].is_null(),
                    }
                })
                && fields.iter().all(|field| {
                    field.strip_prefix("metadata.name=").is_some_and(|name| metadata["name"] == name)
                })
        };
        let items: Vec<&Value> = self.objects.iter().filter(fits).map(|(_, object)| object).collect();
        json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items })
    }
}

fn status(code: u16, message: &str) -> (u16, Value) {
    (code, json!({ "kind": "Status", "status": "Failure", "message": message, "reason": "", "code": code }))
}

/// Whether a path is one of a list, and of which namespace's.
fn collection(path: &str) -> Option<Option<&str>> {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let rest = &parts[if parts.first() == Some(&"api") { 2 } else { 3.min(parts.len()) }..];
    match rest {
        [_] => Some(None),
        ["namespaces", namespace, _] => Some(Some(*namespace)),
        _ => None,
    }
}

fn path(object: &Value) -> String {
    let version = object["apiVersion"].as_str().unwrap();
    let (group, short) = version.split_once('/').unwrap_or(("", version));
    let kind = GroupVersionKind::gvk(group, short, object["kind"].as_str().unwrap());
    let root = if group.is_empty() { "/api" } else { "/apis" };
    let namespace =
        object["metadata"]["namespace"].as_str().map(|namespace| format!("/namespaces/{namespace}"));
    let plural = ApiResource::from_gvk(&kind).plural;
    let name = object["metadata"]["name"].as_str().unwrap();
    format!("{root}/{version}{}/{plural}/{name}", namespace.unwrap_or_default())
}

fn decoded(text: &str) -> String {
    text.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/").replace('+', " ")
}
