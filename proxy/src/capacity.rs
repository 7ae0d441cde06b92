//! How many connections fit into the memory that we may take: more wait in the kernel rather than end the process for all.

use std::fs;

/// What a connection costs before it carries anything: a TLS handshake that is half done, or idle HTTP.
const EACH_BYTES: u64 = 20 << 10;
/// Of one direction's, however much memory there is.
const MOST: u64 = 16_384;
/// Even with hardly any.
const LEAST: u64 = 64;

/// Of one listener of one of so many workers.
pub fn of_listener(workers: usize) -> usize {
    within(limit_bytes(), workers)
}

/// A third for the connections that come in, a third for those that go out, and the rest for what they carry.
fn within(limit_bytes: Option<u64>, workers: usize) -> usize {
    let fit = limit_bytes.map_or(MOST, |bytes| bytes / 3 / EACH_BYTES / workers.max(1) as u64);
    fit.clamp(LEAST, MOST) as usize
}

/// Our container's, of either version of control groups. `None` where there is none.
fn limit_bytes() -> Option<u64> {
    let read = |path| fs::read_to_string(path).ok()?.trim().parse().ok();
    read("/sys/fs/cgroup/memory.max").or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_fit_the_limit() {
        assert_eq!(within(Some(256 << 20), 1), 4_369);
        assert_eq!(within(Some(256 << 20), 4), 1_092);
        assert_eq!(within(Some(1 << 20), 4), 64);
        assert_eq!((within(None, 4), within(Some(u64::MAX), 1)), (16_384, 16_384));
    }
}
