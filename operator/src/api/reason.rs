//! Why something is not well, in a sentence that a colleague would say: counts, the limit, what fails and where it comes from.

use super::tally::Tally;
use mesh_api::{
    golden::Golden,
    health::{DEGRADED_BELOW, Health},
};

/// `the last minute`, for a window in seconds.
pub fn window_words(window_s: u32) -> String {
    match window_s {
        60 => "the last minute".into(),
        3_600 => "the last hour".into(),
        s if s.is_multiple_of(60) => format!("the last {} minutes", s / 60),
        s => format!("the last {s} seconds"),
    }
}

/// The sentence for measured traffic; empty when it is well. `origin` says where the errors come from: `from ratings-v1`.
pub fn of_errors(golden: &Golden, tally: &Tally, window_s: u32, origin: &str) -> String {
    if Health::of(golden) <= Health::Healthy {
        return String::new();
    }
    let (failed, requests) = (tally.failed, golden.requests);
    let errors = 100.0 * failed as f64 / requests as f64;
    let limit = 100.0 * (1.0 - DEGRADED_BELOW);
    let mut sentence = format!(
        "{errors:.1} % errors in {} ({failed} of {requests}), limit {limit:.0} %",
        window_words(window_s)
    );
    if let Some(top) = golden.failures.first() {
        let how_many = match (top.count * 2 > failed, golden.failures.len()) {
            (_, 1) => "all of them",
            (true, _) => "mostly",
            (false, _) => "most often",
        };
        sentence += &format!(", {how_many} {}", top.cause);
        if top.by_mesh {
            sentence += " made by the mesh";
        } else if !origin.is_empty() {
            sentence += &format!(" {origin}");
        }
    }
    sentence
}

/// `3 requests`, `1 request`.
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
