//! Answers views: the one place where tables, telemetry and the clock come together. Work is shared: one snapshot per
//! window and second, one set of indices per set of tables.

use super::{
    Config, State, checks,
    flows::{Flows, Reader},
    graph, identities,
    mesh::Mesh,
    overview::{self, About},
    refusal::{Refusal, quoted},
    routes,
    series::{self, Subject},
    served, traces,
    view::View,
    workloads,
};
use crate::{
    ca::Authority,
    grpc::Streams,
    telemetry::{self, Snapshot, Store},
};
use axum::body::Bytes;
use mesh_api::{golden::Window, identities::Served, trace::TraceList};
use mesh_policy::Tables;
use serde::Serialize;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// An edge stays on the graph for this long after its last request: windows change, places do not.
const HORIZON_S: u32 = 3_600;
/// Traces that a filter looks through, newest first.
const MAX_SEARCHED_TRACES: usize = 20_000;
/// Traces on a workload's page.
const RECENT_TRACES: usize = 10;

#[derive(Debug)]
pub struct App {
    tables: watch::Receiver<Arc<Tables>>,
    telemetry: Arc<Store>,
    authority: watch::Receiver<Arc<Authority>>,
    streams: Arc<Streams>,
    pub config: Config,
    mesh: Mutex<Option<(Arc<Tables>, Arc<Mesh>)>>,
    frames: Mutex<HashMap<Window, Arc<Frame>>>,
    maps: graph::Maps,
}

/// One window at one second.
#[derive(Debug)]
pub struct Frame {
    second: u64,
    tables: Arc<Tables>,
    mesh: Arc<Mesh>,
    snapshot: Snapshot,
    flows: Flows,
}

/// An answer, encoded.
#[derive(Clone, Debug)]
pub enum Answer {
    Whole(Bytes),
    /// The graph's two parts, which its stream sends apart.
    Graph {
        version: u64,
        topology: Bytes,
        metrics: Bytes,
    },
}

impl Answer {
    /// As one document.
    pub fn json(self) -> Bytes {
        match self {
            Answer::Whole(json) => json,
            Answer::Graph { topology, metrics, .. } => {
                [b"{\"topology\":", &topology[..], b",\"metrics\":", &metrics[..], b"}"].concat().into()
            }
        }
    }
}

impl App {
    pub fn new(state: State) -> App {
        App {
            tables: state.tables,
            telemetry: state.telemetry,
            streams: state.streams,
            authority: state.authority,
            config: state.config,
            mesh: Mutex::default(),
            frames: Mutex::default(),
            maps: graph::Maps::default(),
        }
    }

    pub fn answer(&self, view: &View, now_ms: u64) -> Result<Answer, Refusal> {
        match view {
            View::Overview { window } => {
                let Frame { tables, mesh, snapshot, flows, .. } = &*self.frame(*window, now_ms);
                let about = About {
                    version: self.config.version.clone(),
                    cluster: self.config.cluster.clone(),
                    trust_anchor_s: self.trust_anchor_s(now_ms),
                };
                encode(&overview::overview(mesh, tables.diagnostics(), snapshot, flows, about, now_ms))
            }
            View::Graph { ns, window } => {
                let Frame { mesh, snapshot, flows, .. } = &*self.frame(*window, now_ms);
                let (map, metrics) = graph::graph(&self.maps, mesh, snapshot, flows, ns, now_ms);
                let metrics = json(&metrics)?;
                Ok(Answer::Graph { version: map.topology.version, topology: map.json.clone(), metrics })
            }
            View::Workloads { ns, window } => {
                let Frame { mesh, snapshot, flows, .. } = &*self.frame(*window, now_ms);
                encode(&workloads::list(mesh, snapshot, flows, ns, now_ms))
            }
            View::Workload { node, window } => {
                let Frame { mesh, snapshot, flows, .. } = &*self.frame(*window, now_ms);
                let filter = traces::Filter {
                    workload: Some(format!("{}/{}", node.namespace(), node.name())),
                    limit: RECENT_TRACES,
                    ..traces::Filter::default()
                };
                let recent = self.telemetry.newest_traces(MAX_SEARCHED_TRACES, now_ms);
                let recent = traces::summaries(recent.iter().map(|trace| &**trace), &mesh.directory, &filter);
                let workload = workloads::detail(mesh, snapshot, flows, node, recent, now_ms);
                encode(&workload.ok_or_else(|| {
                    Refusal::not_found(format!("no workload {}/{}", node.namespace(), node.name()))
                })?)
            }
            View::Routes { ns, window } => {
                let Frame { mesh, snapshot, .. } = &*self.frame(*window, now_ms);
                encode(&routes::list(mesh, snapshot, ns))
            }
            View::Series { of, subject, window } => encode(&self.series(of, subject, *window, now_ms)),
            View::Traces { filter } => {
                let mesh = self.mesh().1;
                let newest = self.telemetry.newest_traces(MAX_SEARCHED_TRACES, now_ms);
                let usage = self.telemetry.usage();
                encode(&TraceList {
                    traces: traces::summaries(newest.iter().map(|trace| &**trace), &mesh.directory, filter),
                    held: usage.traces as u64,
                    dropped_spans: usage.dropped_spans,
                })
            }
            View::Trace { id } => {
                let trace = self
                    .telemetry
                    .trace(id)
                    .and_then(|trace| traces::detail(&trace, &self.mesh().1.directory));
                encode(&trace.ok_or_else(|| {
                    Refusal::not_found(format!(
                        "no trace {}: it may have made room for newer ones",
                        telemetry::hex(id)
                    ))
                })?)
            }
            View::Checks => {
                let Frame { tables, mesh, snapshot, flows, .. } = &*self.frame(Window::Min5, now_ms);
                let facts = checks::Facts {
                    usage: self.telemetry.usage(),
                    refused_streams: self.streams.refused(),
                    trust_anchor_s: self.trust_anchor_s(now_ms),
                    uptime_s: now_ms.saturating_sub(self.config.started_ms) / 1000,
                };
                encode(&checks::checks(mesh, tables.diagnostics(), snapshot, flows, &facts, now_ms))
            }
            View::Endpoints { authority } => {
                encode(&self.mesh().0.endpoints(authority).map_err(Refusal::bad_request)?)
            }
            View::OutboundPolicy { authority, from } => {
                encode(&self.mesh().0.outbound_json(authority, from).map_err(Refusal::not_found)?)
            }
            View::InboundPolicy { namespace, pod, port } => {
                encode(&self.mesh().0.inbound_json(namespace, pod, *port).map_err(Refusal::not_found)?)
            }
            View::Authz { to, from } => {
                let (tables, mesh) = self.mesh();
                for workload in [Some(to), from.as_ref()].into_iter().flatten() {
                    let known = workload.split_once('/').is_some_and(|(namespace, name)| {
                        mesh.directory.workloads().contains_key(&(namespace.to_owned(), name.to_owned()))
                    });
                    if !known {
                        return Err(Refusal::not_found(format!("no workload {}", quoted(workload))));
                    }
                }
                encode(&tables.authz(to, from.as_deref()))
            }
            View::Identities { ns } => {
                let authority = self.authority.borrow().clone();
                let secret = self.config.identity_secret.as_deref();
                let (tables, proxies) = (self.tables.borrow().clone(), self.telemetry.proxies());
                encode(&identities::list(&tables, &authority, secret, &proxies, ns, now_ms))
            }
            View::Version => encode(
                &serde_json::json!({ "version": self.config.version, "build": self.config.dashboard.build() }),
            ),
        }
    }

    fn series(&self, of: &str, subject: &Subject, window: Window, now_ms: u64) -> mesh_api::series::Series {
        let frame = self.frame(window, now_ms);
        let reader = Reader::new(&frame.mesh.directory, &frame.snapshot.proxies);
        let sends_only = match subject {
            Subject::Node(node) => !frame.flows.received.get(node).is_some_and(|tally| tally.ran()),
            Subject::All | Subject::Edge(..) | Subject::Route { .. } => false,
        };
        let step_s = series::step_s(window);
        let steps = self
            .telemetry
            .history(now_ms, window.seconds(), step_s, |labels| subject.covers(&reader, labels, sends_only));
        series::series(of.to_owned(), window, now_ms, &steps)
    }

    /// Asks the Pod itself: not a view, as nothing of it is shared.
    pub async fn served(&self, namespace: &str, name: &str) -> Result<Served, Refusal> {
        let (tables, authority) = (self.tables.borrow().clone(), self.authority.borrow().clone());
        served::served(&tables, &authority, namespace, name, telemetry::now_ms()).await
    }

    fn trust_anchor_s(&self, now_ms: u64) -> Option<u64> {
        Some(identities::left_s(self.authority.borrow().trust_anchor_ends(), now_ms))
    }

    fn mesh(&self) -> (Arc<Tables>, Arc<Mesh>) {
        let tables = self.tables.borrow().clone();
        let mut cached = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, mesh)) = &*cached
            && Arc::ptr_eq(of, &tables)
        {
            return (tables, mesh.clone());
        }
        let mesh = Arc::new(Mesh::of(&tables));
        *cached = Some((tables.clone(), mesh.clone()));
        (tables, mesh)
    }

    /// Whoever asks first in a second computes; the others wait the few milliseconds and share.
    fn frame(&self, window: Window, now_ms: u64) -> Arc<Frame> {
        let (tables, mesh) = self.mesh();
        let second = now_ms / 1000;
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(frame) = frames.get(&window)
            && frame.second == second
            && Arc::ptr_eq(&frame.tables, &tables)
        {
            return frame.clone();
        }
        let snapshot = self.telemetry.snapshot(now_ms, window.seconds(), HORIZON_S);
        let flows = Flows::read(&snapshot, &mesh.directory);
        let frame = Arc::new(Frame { second, tables, mesh, snapshot, flows });
        frames.insert(window, frame.clone());
        frame
    }
}

fn encode(value: &impl Serialize) -> Result<Answer, Refusal> {
    json(value).map(Answer::Whole)
}

fn json(value: &impl Serialize) -> Result<Bytes, Refusal> {
    let json = serde_json::to_vec(value).map_err(|error| Refusal {
        status: http::StatusCode::INTERNAL_SERVER_ERROR,
        error: format!("encoding the answer: {error}"),
    })?;
    Ok(json.into())
}
