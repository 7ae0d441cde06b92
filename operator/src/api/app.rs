//! Answers views: the one place where tables, telemetry and the clock come together. Work is shared: one snapshot per
//! window and second, one set of indices per set of tables.

use super::{
    Config, State, checks,
    flows::{Flows, Reader},
    graph, identities,
    login::{Login, Seen},
    mesh::Mesh,
    overview::{self, About},
    refusal::{Refusal, quoted},
    routes,
    series::{self, Subject},
    served,
    sight::Sight,
    traces,
    view::View,
    workloads,
};
use crate::{
    ca::Authority,
    grpc::Streams,
    rate::Peer,
    telemetry::{self, Label, Snapshot, Store, Trace},
};
use axum::body::Bytes;
use http::HeaderMap;
use mesh_api::{golden::Window, identities::Served, trace::TraceList};
use mesh_policy::Tables;
use serde::Serialize;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// An edge stays on the graph for this long after its last request: windows change, places do not.
const HORIZON_S: u32 = 3_600;
/// Traces that a filter looks through, newest first.
const MAX_SEARCHED_TRACES: usize = 20_000;
/// Traces on a workload's page.
const RECENT_TRACES: usize = 10;
/// Different sights, of which indices are kept.
const MAX_SIGHTS: usize = 64;
/// Frames that are kept at a time: each may hold as much as the store. What is asked beyond is computed for whoever asks, and not shared.
const MAX_FRAMES: usize = 16;

#[derive(Debug)]
pub struct App {
    tables: watch::Receiver<Arc<Tables>>,
    telemetry: Arc<Store>,
    authority: watch::Receiver<Arc<Authority>>,
    streams: Arc<Streams>,
    login: Login,
    pub config: Config,
    mesh: Mutex<HashMap<Sight, Indexed>>,
    frames: Mutex<HashMap<(Window, Sight), Arc<Frame>>>,
}

/// What is kept for everybody who sees the same.
#[derive(Clone, Debug)]
struct Indexed {
    tables: Arc<Tables>,
    mesh: Arc<Mesh>,
    maps: Arc<graph::Maps>,
}

/// One window at one second.
#[derive(Debug)]
pub struct Frame {
    second: u64,
    tables: Arc<Tables>,
    mesh: Arc<Mesh>,
    maps: Arc<graph::Maps>,
    snapshot: Snapshot,
    flows: Flows,
}

impl Frame {
    /// What is left of it to a narrower sight.
    fn narrowed(&self, sight: &Sight) -> Frame {
        let mesh = Arc::new(Mesh::of(&self.tables, sight));
        let snapshot = self.snapshot.of(|namespace| sight.sees(namespace));
        let flows = Flows::read(&snapshot, &mesh.directory);
        let (tables, maps) = (self.tables.clone(), self.maps.clone());
        Frame { second: self.second, tables, mesh, maps, snapshot, flows }
    }
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
            login: state.login,
            config: state.config,
            mesh: Mutex::default(),
            frames: Mutex::default(),
        }
    }

    /// What whoever sent these headers may see.
    pub async fn seen(&self, headers: &HeaderMap, peer: Peer) -> Result<Seen, Refusal> {
        let tables = self.tables.borrow().clone();
        let namespaces: BTreeSet<&str> = tables.pods().iter().map(|pod| pod.namespace.as_str()).collect();
        self.login.seen(headers, namespaces.into_iter().map(str::to_owned).collect(), peer).await
    }

    pub fn answer(&self, view: &View, sight: &Sight, now_ms: u64) -> Result<Answer, Refusal> {
        self.check_names(view, sight)?;
        let sees = |namespace: &str| sight.sees(namespace);
        match view {
            View::Overview { window } => {
                let Frame { tables, mesh, snapshot, flows, .. } = &*self.frame(*window, sight, now_ms);
                let about = About {
                    version: self.config.version.clone(),
                    cluster: self.config.cluster.clone(),
                    trust_anchor_s: Some(identities::left_s(
                        self.authority.borrow().trust_anchor_ends(),
                        now_ms,
                    )),
                };
                let diagnostics = sight.diagnostics(tables.diagnostics());
                encode(&overview::overview(mesh, &diagnostics, snapshot, flows, about, now_ms))
            }
            View::Graph { ns, window } => {
                let Frame { mesh, maps, snapshot, flows, .. } = &*self.frame(*window, sight, now_ms);
                let (map, metrics) = graph::graph(maps, mesh, snapshot, flows, ns, now_ms);
                let metrics = json(&metrics)?;
                Ok(Answer::Graph { version: map.topology.version, topology: map.json.clone(), metrics })
            }
            View::Workloads { ns, window } => {
                let Frame { mesh, snapshot, flows, .. } = &*self.frame(*window, sight, now_ms);
                encode(&workloads::list(mesh, snapshot, flows, ns, now_ms))
            }
            View::Workload { node, window } => {
                let Frame { mesh, snapshot, flows, .. } = &*self.frame(*window, sight, now_ms);
                let filter = traces::Filter {
                    workload: Some(format!("{}/{}", node.namespace(), node.name())),
                    limit: RECENT_TRACES,
                    ..traces::Filter::default()
                };
                let recent = self.traces(sight, now_ms);
                let recent = traces::summaries(recent.iter().map(|trace| &**trace), &mesh.directory, &filter);
                let workload = workloads::detail(mesh, snapshot, flows, node, recent, now_ms);
                encode(&workload.ok_or_else(|| {
                    Refusal::not_found(format!("no workload {}/{}", node.namespace(), node.name()))
                })?)
            }
            View::Routes { ns, window } => {
                let Frame { mesh, snapshot, .. } = &*self.frame(*window, sight, now_ms);
                encode(&routes::list(mesh, snapshot, ns))
            }
            View::Series { of, subject, window } => encode(&self.series(of, subject, *window, sight, now_ms)),
            View::Traces { filter } => {
                let mesh = self.indexed(sight).mesh;
                let newest = self.traces(sight, now_ms);
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
                    .and_then(|trace| sight.trace(trace))
                    .and_then(|trace| traces::detail(&trace, &self.indexed(sight).mesh.directory));
                encode(&trace.ok_or_else(|| {
                    Refusal::not_found(format!(
                        "no trace {}: it may have made room for newer ones",
                        telemetry::hex(id)
                    ))
                })?)
            }
            View::Checks { ns } => {
                let mut frame = self.frame(Window::Min5, sight, now_ms);
                let sight = &sight.narrowed(ns);
                if !ns.is_empty() {
                    // Asked once, by a command: not kept.
                    frame = Arc::new(frame.narrowed(sight));
                }
                let Frame { tables, mesh, snapshot, flows, .. } = &*frame;
                let authority = self.authority.borrow().clone();
                let facts = checks::Facts {
                    usage: self.telemetry.usage(),
                    refused_streams: self.streams.refused(),
                    trust_anchor_s: identities::left_s(authority.trust_anchor_ends(), now_ms),
                    issuer_s: identities::left_s(authority.issuer_ends(), now_ms),
                    leaf_s: authority.leaf_lifetime().as_secs(),
                    version: self.config.version.clone(),
                    unmeshed: sight.diagnostics(tables.unmeshed()),
                    half_opaque: tables.half_opaque(|namespace| sight.sees(namespace)),
                    uptime_s: now_ms.saturating_sub(self.config.started_ms) / 1000,
                };
                let diagnostics = sight.diagnostics(tables.diagnostics());
                encode(&checks::checks(mesh, &diagnostics, snapshot, flows, &facts, now_ms))
            }
            View::Endpoints { authority } => {
                let endpoints = self.indexed(sight).tables.endpoints(authority, sees);
                encode(&endpoints.map_err(Refusal::bad_request)?)
            }
            View::OutboundPolicy { authority, from } => {
                let policy = self.indexed(sight).tables.outbound_json(authority, from, sees);
                encode(&policy.map_err(Refusal::not_found)?)
            }
            View::InboundPolicy { namespace, pod, port } => encode(
                &self
                    .indexed(sight)
                    .tables
                    .inbound_json(namespace, pod, *port)
                    .map_err(Refusal::not_found)?,
            ),
            View::Authz { to, from } => {
                let Indexed { tables, mesh, .. } = self.indexed(sight);
                for workload in [Some(to), from.as_ref()].into_iter().flatten() {
                    let known = workload.split_once('/').is_some_and(|(namespace, name)| {
                        mesh.directory.workloads().contains_key(&(namespace.to_owned(), name.to_owned()))
                    });
                    if !known {
                        return Err(Refusal::not_found(format!("no workload {}", quoted(workload))));
                    }
                }
                encode(&tables.authz(to, from.as_deref(), sees))
            }
            View::Identities { ns } => {
                let sight = sight.narrowed(ns);
                let authority = self.authority.borrow().clone();
                let secret = self.config.identity_secret.as_deref();
                let (tables, proxies) = (self.tables.borrow().clone(), self.telemetry.proxies());
                encode(&identities::list(&tables, &authority, secret, &proxies, &sight, now_ms))
            }
            View::Version => encode(&serde_json::json!({
                "version": self.config.version,
                "build": self.config.dashboard.build(),
                "now_ms": now_ms,
            })),
        }
    }

    fn series(
        &self,
        of: &str,
        subject: &Subject,
        window: Window,
        sight: &Sight,
        now_ms: u64,
    ) -> mesh_api::series::Series {
        let frame = self.frame(window, sight, now_ms);
        let reader = Reader::new(&frame.mesh.directory, &frame.snapshot.proxies);
        let sends_only = match subject {
            Subject::Node(node) => !frame.flows.received.get(node).is_some_and(|tally| tally.ran()),
            Subject::All | Subject::Edge(..) | Subject::Route { .. } => false,
        };
        let step_s = series::step_s(window);
        let steps = self.telemetry.history(now_ms, window.seconds(), step_s, |labels| {
            sight.sees(labels.get(Label::Namespace)) && subject.covers(&reader, labels, sends_only)
        });
        series::series(of.to_owned(), window, now_ms, &steps)
    }

    /// Asks the Pod itself: not a view, as nothing of it is shared. Whoever asks has to see its namespace.
    pub async fn served(&self, namespace: &str, name: &str) -> Result<Served, Refusal> {
        let (tables, authority) = (self.tables.borrow().clone(), self.authority.borrow().clone());
        served::served(&tables, &authority, namespace, name, telemetry::now_ms()).await
    }

    /// The newest that are seen.
    fn traces(&self, sight: &Sight, now_ms: u64) -> Vec<Arc<Trace>> {
        let newest = self.telemetry.newest_traces(MAX_SEARCHED_TRACES, now_ms);
        newest.into_iter().filter_map(|trace| sight.trace(trace)).collect()
    }

    /// What is asked by name is told only to who sees its namespace. All else is made of what one sees.
    fn check_names(&self, view: &View, sight: &Sight) -> Result<(), Refusal> {
        if *sight == Sight::All {
            return self.check_namespaces(view);
        }
        let authority = |authority: &str| {
            let namespace = self.tables.borrow().namespace_of(authority);
            let namespace = namespace
                .ok_or_else(|| Refusal::forbidden("an address may be anybody's: want name.namespace:port"));
            sight.check(&namespace?)
        };
        let object = |name: &str| sight.check(name.split('/').next().unwrap_or_default());
        match view {
            View::Endpoints { authority: of } => authority(of),
            View::OutboundPolicy { authority: of, from } => authority(of).and_then(|()| object(from)),
            View::InboundPolicy { namespace, .. } => sight.check(namespace),
            View::Authz { to, from } => object(to).and_then(|()| from.as_deref().map_or(Ok(()), object)),
            View::Checks { ns } => ns.iter().try_for_each(|namespace| sight.check(namespace)),
            View::Overview { .. }
            | View::Graph { .. }
            | View::Workloads { .. }
            | View::Workload { .. }
            | View::Routes { .. }
            | View::Series { .. }
            | View::Traces { .. }
            | View::Trace { .. }
            | View::Identities { .. }
            | View::Version => Ok(()),
        }
    }

    /// All is well in a namespace that there is not, so that nobody would find what they have misspelt.
    fn check_namespaces(&self, view: &View) -> Result<(), Refusal> {
        let View::Checks { ns } = view else { return Ok(()) };
        let tables = self.tables.borrow().clone();
        match ns.iter().find(|namespace| !tables.has_namespace(namespace)) {
            Some(unknown) => Err(Refusal::not_found(format!("no namespace {}", quoted(unknown)))),
            None => Ok(()),
        }
    }

    fn indexed(&self, sight: &Sight) -> Indexed {
        let tables = self.tables.borrow().clone();
        let mut kept = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
        let maps = match kept.get(sight) {
            Some(known) if Arc::ptr_eq(&known.tables, &tables) => return known.clone(),
            Some(older) => older.maps.clone(),
            None => Arc::default(),
        };
        if kept.len() >= MAX_SIGHTS {
            kept.retain(|sight, _| *sight == Sight::All);
        }
        let indexed = Indexed { mesh: Arc::new(Mesh::of(&tables, sight)), tables, maps };
        kept.insert(sight.clone(), indexed.clone());
        indexed
    }

    /// Whoever asks first in a second computes; the others wait the few milliseconds and share.
    fn frame(&self, window: Window, sight: &Sight, now_ms: u64) -> Arc<Frame> {
        let Indexed { tables, mesh, maps } = self.indexed(sight);
        let second = now_ms / 1000;
        let key = (window, sight.clone());
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(frame) = frames.get(&key)
            && frame.second == second
            && Arc::ptr_eq(&frame.tables, &tables)
        {
            return frame.clone();
        }
        // Before another is made, so that those of seconds past make room for it.
        frames.retain(|_, frame| frame.second.abs_diff(second) <= 1);
        let mut snapshot = self.telemetry.snapshot(now_ms, window.seconds(), HORIZON_S);
        if *sight != Sight::All {
            snapshot = snapshot.of(|namespace| sight.sees(namespace));
        }
        let flows = Flows::read(&snapshot, &mesh.directory);
        let frame = Arc::new(Frame { second, tables, mesh, maps, snapshot, flows });
        if frames.len() < MAX_FRAMES || frames.contains_key(&key) {
            frames.insert(key, frame.clone());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Dashboard, http_tests};
    use mesh_policy::World;

    fn frames(app: &App) -> Vec<(Window, Sight)> {
        app.frames.lock().unwrap().keys().cloned().collect()
    }

    #[test]
    fn a_frame_lives_for_a_second_or_two_and_there_are_never_many() {
        let app = App::new(http_tests::state(Dashboard::Embedded, Login::Open, &World::default()));
        let ask = |namespace: &str, now_ms: u64| {
            let sight = Sight::Only(Arc::new([namespace.to_owned()].into()));
            app.answer(&View::Overview { window: Window::Min1 }, &sight, now_ms).unwrap();
            frames(&app).len()
        };
        assert_eq!([ask("shop", 1_000), ask("shop", 1_900), ask("bank", 2_000)], [1, 1, 2]);
        assert_eq!(ask("bank", 3_000), 1, "nobody has asked for the other one");
        let most = (0..100).map(|i| ask(&format!("n{i}"), 3_500)).max();
        assert_eq!(most, Some(MAX_FRAMES));
        assert_eq!(ask("shop", 5_000), 1);
    }

    #[test]
    fn what_is_left_of_a_namespace_is_not_kept() {
        let namespace = serde_json::json!({"metadata": {"name": "shop"}});
        let namespaces = Arc::new(vec![Arc::new(serde_json::from_value(namespace).unwrap())]);
        let world = World { namespaces, ..World::default() };
        let app = App::new(http_tests::state(Dashboard::Embedded, Login::Open, &world));
        app.answer(&View::Checks { ns: vec!["shop".into()] }, &Sight::All, 1_000).unwrap();
        assert_eq!(frames(&app), [(Window::Min5, Sight::All)]);
    }
}
