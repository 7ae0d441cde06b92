//! The process's own figures, read from `/proc` when somebody asks. What cannot be read is left out.

use super::{Family, family};
use std::{
    fs,
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Clock ticks per second in `/proc/self/stat`: `USER_HZ`, part of Linux' interface to programs and 100 everywhere.
const TICKS_PER_S: f64 = 100.0;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const GIT_SHA: &str = match option_env!("MESH_GIT_SHA") {
    Some(sha) => sha,
    None => "unknown",
};
const PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

type Value = (&'static Family, &'static [(&'static str, &'static str)], f64);

/// When the process started, as far as telemetry is concerned: the first call decides.
pub fn started() -> (SystemTime, Instant) {
    static STARTED: OnceLock<(SystemTime, Instant)> = OnceLock::new();
    *STARTED.get_or_init(|| (SystemTime::now(), Instant::now()))
}

pub fn read() -> Vec<Value> {
    let (at, since) = started();
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut values: Vec<Value> = vec![
        (&family::PROXY_BUILD_INFO, &[("version", VERSION), ("git_sha", GIT_SHA), ("profile", PROFILE)], 1.0),
        (&family::PROCESS_START_TIME_SECONDS, &[], at.as_millis() as f64 / 1e3),
        (&family::PROCESS_UPTIME_SECONDS_TOTAL, &[], since.elapsed().as_millis() as f64 / 1e3),
    ];
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let optional = [
        (&family::PROCESS_RESIDENT_MEMORY_BYTES, field(&status, "VmRSS:").map(|kib| kib * 1024.0)),
        (&family::PROCESS_VIRTUAL_MEMORY_BYTES, field(&status, "VmSize:").map(|kib| kib * 1024.0)),
        (&family::PROCESS_THREADS, field(&status, "Threads:")),
        (&family::PROCESS_CPU_SECONDS_TOTAL, cpu_seconds()),
        (&family::PROCESS_OPEN_FDS, fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as f64)),
        (&family::PROCESS_MAX_FDS, max_fds()),
    ];
    values.extend(optional.into_iter().filter_map(|(family, value)| Some((family, &[][..], value?))));
    values
}

/// RSS in bytes.
pub fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    field(&status, "VmRSS:").map(|kib| kib as u64 * 1024)
}

/// The number after a name, as in `VmRSS:   1234 kB`.
fn field(status: &str, name: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in brackets and may hold spaces; utime and stime are the 12th and 13th after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_S)
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    field(&limits, "Max open files")
}
