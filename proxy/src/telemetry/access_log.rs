//! The access log: one JSON object per line and request, on standard output. Off by default. Workers hand records to a thread
//! that formats and writes, so that a slow terminal or pipe never holds up a request.

use super::Tally;
use http::HeaderValue;
use std::{
    io::{self, BufWriter, Write},
    iter,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
    time::{Duration, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Lines that wait for the writer; more are dropped and counted.
const QUEUE: usize = 1_024;

#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: mpsc::SyncSender<Record>,
    tally: Arc<Tally>,
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
    pub(super) fn start(tally: Arc<Tally>) -> AccessLog {
        AccessLog::to(io::stdout(), tally)
    }

    /// The writer ends with the last clone of the log. Its thread cannot fail but for lack of memory, and then nothing works.
    fn to(out: impl Write + Send + 'static, tally: Arc<Tally>) -> AccessLog {
        let (queue, records) = mpsc::sync_channel(QUEUE);
        let writer = thread::Builder::new().name("access-log".into()).spawn(move || write_all(records, out));
        if let Err(error) = writer {
            tracing::error!(%error, "access log: no thread to write it");
        }
        AccessLog { queue, tally }
    }

    /// Never waits.
    pub fn write(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            self.tally.access_log_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A line at a time, but written out only when no more lines wait.
fn write_all(records: mpsc::Receiver<Record>, out: impl Write) {
    let mut out = BufWriter::new(out);
    while let Ok(first) = records.recv() {
        for record in iter::once(first).chain(records.try_iter()) {
            let written = serde_json::to_writer(&mut out, &record.to_json());
            let _ = written.map_err(io::Error::from).and_then(|()| out.write_all(b"\n"));
        }
        // A closed pipe: whoever reads the log has gone, and the requests go on.
        let _ = out.flush();
    }
}

impl Record {
    fn to_json(&self) -> serde_json::Value {
        let header = |value: &Option<HeaderValue>| {
            value.as_ref().map(|value| plain(&String::from_utf8_lossy(value.as_bytes())))
        };
        serde_json::json!({
            "timestamp": OffsetDateTime::from(self.time).format(&Rfc3339).ok(),
            "direction": self.direction,
            "client.addr": self.client.to_string(),
            "client.id": self.client_id,
            "method": self.method.as_str(),
            "uri": plain(&self.uri.to_string()),
            "host": header(&self.host),
            "version": format!("{:?}", self.version),
            "user_agent": header(&self.user_agent),
            "trace_id": self.trace.map(|trace| trace.to_string()),
            "status": self.status,
            "error": self.error,
            "request_bytes": self.request_bytes,
            "response_bytes": self.response_bytes,
            "total_ns": self.total.as_nanos() as u64,
        })
    }
}

/// Without characters that a terminal might obey: JSON escapes those below space only, not DEL and C1.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    /// Everything that was written, when the writer is done.
    struct Page(mpsc::Sender<Vec<u8>>, Vec<u8>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Drop for Page {
        fn drop(&mut self) {
            self.0.send(std::mem::take(&mut self.1)).unwrap();
        }
    }

    /// reliability.md T22.
    #[test]
    fn each_request_is_one_line_whatever_its_headers_hold() {
        let (sender, page) = mpsc::channel();
        let log = AccessLog::to(Page(sender, Vec::new()), Arc::default());
        let nasty = HeaderValue::from_bytes(b"a\tb\xc2\x9b31m\"\\\xff").unwrap();
        for _ in 0..2 {
            log.write(Record {
                time: UNIX_EPOCH + Duration::from_millis(1_709_210_096_789),
                direction: "inbound",
                client: "[::1]:80".parse().unwrap(),
                client_id: None,
                method: http::Method::GET,
                uri: "/a?b=%0a".parse().unwrap(),
                host: None,
                version: http::Version::HTTP_2,
                user_agent: Some(nasty.clone()),
                trace: None,
                status: 503,
                request_bytes: 0,
                response_bytes: 7,
                total: Duration::from_micros(5),
                error: Some("failfast"),
            });
        }
        drop(log);
        let page = String::from_utf8(page.recv().unwrap()).unwrap();
        let lines: Vec<serde_json::Value> =
            page.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["timestamp"], "2024-02-29T12:34:56.789Z");
        assert_eq!(lines[0]["user_agent"], "a\u{fffd}b\u{fffd}31m\"\\\u{fffd}");
        assert!(page.chars().all(|c| c == '\n' || !c.is_control()), "{page:?}");
    }
}
