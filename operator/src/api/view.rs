//! What a request asks for: path and query, parsed and bounded. Pure; two requests for the same view are equal.

use super::{
    directory::NodeId,
    refusal::{Refusal, quoted},
    series::Subject,
    traces::Filter,
};
use crate::telemetry::{TraceId, parse_trace_id};
use mesh_api::golden::Window;

/// Longest query that is read at all.
const MAX_QUERY_BYTES: usize = 4_096;
const MAX_NAMESPACES: usize = 32;
const MAX_TRACES: usize = 500;
const DEFAULT_TRACES: usize = 50;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum View {
    Overview { window: Window },
    Graph { ns: Vec<String>, window: Window },
    Workloads { ns: Vec<String>, window: Window },
    Workload { node: NodeId, window: Window },
    Routes { ns: Vec<String>, window: Window },
    Series { of: String, subject: Subject, window: Window },
    Traces { filter: Filter },
    Trace { id: TraceId },
    Checks { ns: Vec<String> },
    Endpoints { authority: String },
    OutboundPolicy { authority: String, from: String },
    InboundPolicy { namespace: String, pod: String, port: u16 },
    Authz { to: String, from: Option<String> },
    Identities { ns: Vec<String> },
    Version,
}

impl View {
    /// Name of the events that carry it.
    pub fn event(&self) -> &'static str {
        match self {
            View::Overview { .. } => "overview",
            View::Graph { .. } => "metrics",
            View::Workloads { .. } => "workloads",
            View::Workload { .. } => "workload",
            View::Routes { .. } => "routes",
            View::Series { .. } => "series",
            View::Traces { .. } => "traces",
            View::Trace { .. } => "trace",
            View::Checks { .. } => "checks",
            View::Endpoints { .. } => "endpoints",
            View::OutboundPolicy { .. } | View::InboundPolicy { .. } => "policy",
            View::Authz { .. } => "authz",
            View::Identities { .. } => "identities",
            View::Version => "version",
        }
    }

    /// Reads a path below `/api/v1/` (without `/stream`) and the pairs of its query.
    pub fn parse(path: &str, query: Vec<(String, String)>) -> Result<View, Refusal> {
        let mut query = Query(query);
        let segments: Vec<&str> = path.split('/').collect();
        let view = match segments[..] {
            ["overview"] => View::Overview { window: query.window()? },
            ["graph"] => View::Graph { ns: query.namespaces()?, window: query.window()? },
            ["workloads"] => View::Workloads { ns: query.namespaces()?, window: query.window()? },
            ["workloads", namespace, name] if is_name(namespace, 63) && is_name(name, 253) => {
                View::Workload { node: NodeId::workload(namespace, name), window: query.window()? }
            }
            ["routes"] => View::Routes { ns: query.namespaces()?, window: query.window()? },
            ["series"] => query.series()?,
            ["traces"] => View::Traces { filter: query.filter()? },
            ["traces", id] => View::Trace {
                id: parse_trace_id(id).ok_or_else(|| {
                    Refusal::bad_request(format!("trace id {}: want 32 hex digits", quoted(id)))
                })?,
            },
            ["checks"] => View::Checks { ns: query.namespaces()? },
            ["endpoints"] => {
                View::Endpoints { authority: query.required("authority", "name.namespace:port")? }
            }
            ["policy"] => query.policy()?,
            ["authz"] => View::Authz {
                to: query.object("to")?.ok_or_else(|| missing("to", "namespace/workload"))?,
                from: query.object("from")?,
            },
            ["identities"] => View::Identities { ns: query.namespaces()? },
            ["version"] => View::Version,
            _ => return Err(Refusal::not_found(format!("nothing is served at /api/v1/{}", quoted(path)))),
        };
        query.finish()?;
        Ok(view)
    }
}

/// Whether a query is short enough to be read.
pub fn check_length(query: Option<&str>) -> Result<(), Refusal> {
    match query {
        Some(query) if query.len() > MAX_QUERY_BYTES => {
            Err(Refusal::bad_request(format!("the query is longer than {MAX_QUERY_BYTES} bytes")))
        }
        _ => Ok(()),
    }
}

/// Parameters that were not read yet.
struct Query(Vec<(String, String)>);

impl Query {
    /// The only value of a parameter; an empty one counts as absent.
    fn take(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        let mut values = self.take_all(name);
        if values.len() > 1 {
            return Err(Refusal::bad_request(format!("{name}: given {} times, want once", values.len())));
        }
        Ok(values.pop().filter(|value| !value.is_empty()))
    }

    fn take_all(&mut self, name: &str) -> Vec<String> {
        let (taken, rest) = std::mem::take(&mut self.0).into_iter().partition(|(key, _)| key == name);
        self.0 = rest;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    fn required(&mut self, name: &str, form: &str) -> Result<String, Refusal> {
        let value = self.take(name)?.ok_or_else(|| missing(name, form))?;
        if value.len() > 512 || value.chars().any(char::is_control) {
            return Err(Refusal::bad_request(format!("{name}={}: want {form}", quoted(&value))));
        }
        Ok(value)
    }

    fn window(&mut self) -> Result<Window, Refusal> {
        let Some(text) = self.take("window")? else { return Ok(Window::Min1) };
        Window::parse(&text).ok_or_else(|| {
            Refusal::bad_request(format!("window={}: want 10s, 1m, 5m, 15m or 1h", quoted(&text)))
        })
    }

    /// `ns=a,b`, or several `ns`; sorted, so that equal sets are one view.
    fn namespaces(&mut self) -> Result<Vec<String>, Refusal> {
        let values = self.take_all("ns");
        let mut names: Vec<String> = values
            .iter()
            .flat_map(|value| value.split(','))
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        if let Some(bad) = names.iter().find(|name| !is_name(name, 63) || name.contains('.')) {
            return Err(Refusal::bad_request(format!(
                "ns={}: want names of namespaces, comma-separated",
                quoted(bad)
            )));
        }
        names.sort();
        names.dedup();
        if names.len() > MAX_NAMESPACES {
            return Err(Refusal::bad_request(format!(
                "ns: more than {MAX_NAMESPACES} namespaces; leave it out for all"
            )));
        }
        Ok(names)
    }

    /// `namespace/name`
    fn object(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        match value.split_once('/') {
            Some((namespace, object)) if is_name(namespace, 63) && is_name(object, 253) => Ok(Some(value)),
            _ => Err(Refusal::bad_request(format!("{name}={}: want namespace/name", quoted(&value)))),
        }
    }

    fn series(&mut self) -> Result<View, Refusal> {
        const FORM: &str = "all, w:ns/name, an edge's id or r:Kind/ns/name";
        let of = self.required("of", FORM)?;
        let subject = Subject::parse(&of)
            .ok_or_else(|| Refusal::bad_request(format!("of={}: want {FORM}", quoted(&of))))?;
        Ok(View::Series { of, subject, window: self.window()? })
    }

    fn filter(&mut self) -> Result<Filter, Refusal> {
        let mut number = |name: &str, max: u64, default: u64| match self.take(name)? {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(number) if number <= max => Ok(number),
                _ => Err(Refusal::bad_request(format!(
                    "{name}={}: want a whole number up to {max}",
                    quoted(&text)
                ))),
            },
        };
        let min_ms = number("min_ms", 86_400_000, 0)?;
        let limit = number("limit", MAX_TRACES as u64, DEFAULT_TRACES as u64)? as usize;
        let error = match self.take("error")?.as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(text) => {
                return Err(Refusal::bad_request(format!("error={}: want true or false", quoted(text))));
            }
        };
        Ok(Filter { workload: self.object("workload")?, min_ms, error, limit })
    }

    fn policy(&mut self) -> Result<View, Refusal> {
        const WANT: &str =
            "want outbound=name.namespace:port with from=namespace/pod, or inbound=namespace/pod:port";
        match (self.take("outbound")?, self.take("inbound")?) {
            (Some(authority), None) if authority.len() <= 512 && !authority.chars().any(char::is_control) => {
                let from =
                    self.take("from")?.ok_or_else(|| missing("from", "namespace/pod, or a namespace"))?;
                let (namespace, pod) = from.split_once('/').unwrap_or((&from, "x"));
                if !is_name(namespace, 63) || !is_name(pod, 253) {
                    return Err(Refusal::bad_request(format!("from={}: want namespace/pod", quoted(&from))));
                }
                Ok(View::OutboundPolicy { authority, from })
            }
            (None, Some(inbound)) => {
                let parts = inbound.split_once('/').and_then(|(namespace, rest)| {
                    let (pod, port) = rest.rsplit_once(':')?;
                    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
                    (is_name(namespace, 63) && is_name(pod, 253))
                        .then(|| (namespace.to_owned(), pod.to_owned(), port))
                });
                let (namespace, pod, port) = parts.ok_or_else(|| {
                    Refusal::bad_request(format!("inbound={}: want namespace/pod:port", quoted(&inbound)))
                })?;
                Ok(View::InboundPolicy { namespace, pod, port })
            }
            _ => Err(Refusal::bad_request(WANT)),
        }
    }

    /// A parameter that nobody reads is a typing error, and better said than ignored.
    fn finish(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::bad_request(format!("unknown parameter {}", quoted(name)))),
        }
    }
}

fn missing(name: &str, form: &str) -> Refusal {
    Refusal::bad_request(format!("{name} is missing: want {form}"))
}

/// A DNS name as Kubernetes wants objects' names.
fn is_name(text: &str, max: usize) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    !text.is_empty()
        && text.len() <= max
        && text.bytes().all(allowed)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
}
