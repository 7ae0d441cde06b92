//! Why a certificate was refused: a status for who asked, a count for the metrics, and now and then a line for the log.

use crate::accounts::{Doubt, Fault};
use crate::ca::CsrError;
use std::{
    fmt::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tonic::{Code, Status};

/// The metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Incomplete,
    TokenAudience,
    TokenExpired,
    TokenGone,
    TokenUnbound,
    TokenInvalid,
    /// Nobody could say whose token it is.
    TokenUnknown,
    OtherIdentity,
    RateLimit,
    RequestMalformed,
    RequestRefused,
    RequestReplayed,
    Signing,
}

const CAUSES: [(Cause, &str, Code); 13] = [
    (Cause::Incomplete, "incomplete", Code::InvalidArgument),
    (Cause::TokenAudience, "token_audience", Code::FailedPrecondition),
    (Cause::TokenExpired, "token_expired", Code::FailedPrecondition),
    (Cause::TokenGone, "token_gone", Code::FailedPrecondition),
    (Cause::TokenUnbound, "token_unbound", Code::FailedPrecondition),
    (Cause::TokenInvalid, "token_invalid", Code::FailedPrecondition),
    (Cause::TokenUnknown, "token_unknown", Code::Unavailable),
    (Cause::OtherIdentity, "other_identity", Code::FailedPrecondition),
    (Cause::RateLimit, "rate_limit", Code::ResourceExhausted),
    (Cause::RequestMalformed, "request_malformed", Code::InvalidArgument),
    (Cause::RequestRefused, "request_refused", Code::FailedPrecondition),
    (Cause::RequestReplayed, "request_replayed", Code::FailedPrecondition),
    (Cause::Signing, "signing", Code::Internal),
];

#[derive(Clone, Debug)]
pub struct Refusal {
    pub cause: Cause,
    /// For who asked: what is wrong, and what to do about it.
    pub message: String,
}

impl Refusal {
    pub fn new(cause: Cause, message: impl Into<String>) -> Refusal {
        Refusal { cause, message: message.into() }
    }
}

impl From<Doubt> for Refusal {
    fn from(doubt: Doubt) -> Refusal {
        let cause = match &doubt {
            Doubt::Refused(Fault::Audience, _) => Cause::TokenAudience,
            Doubt::Refused(Fault::Expired, _) => Cause::TokenExpired,
            Doubt::Refused(Fault::Gone, _) => Cause::TokenGone,
            Doubt::Refused(Fault::Unbound, _) => Cause::TokenUnbound,
            Doubt::Refused(Fault::Invalid, _) => Cause::TokenInvalid,
            Doubt::Unavailable(_) => Cause::TokenUnknown,
        };
        Refusal::new(cause, doubt.to_string())
    }
}

impl From<CsrError> for Refusal {
    fn from(error: CsrError) -> Refusal {
        let cause = match &error {
            CsrError::Malformed(_) => Cause::RequestMalformed,
            CsrError::Refused(_) => Cause::RequestRefused,
        };
        Refusal::new(cause, error.to_string())
    }
}

impl From<Refusal> for Status {
    fn from(Refusal { cause, message }: Refusal) -> Status {
        Status::new(CAUSES[cause as usize].2, message)
    }
}

/// A cause is said once in this time: a flood must not become one of the log.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Certificates that were asked for since start.
#[derive(Debug, Default)]
pub struct Certificates {
    issued: AtomicU64,
    refused: [AtomicU64; CAUSES.len()],
    /// When each cause was last said, and how often it had come up by then.
    said: Mutex<[Option<(Instant, u64)>; CAUSES.len()]>,
}

impl Certificates {
    pub fn issued(&self) {
        self.issued.fetch_add(1, Relaxed);
    }

    /// Counts. `Some` where the log is to hear of it, with how often it came up since the log last did.
    pub fn refused(&self, cause: Cause, now: Instant) -> Option<u64> {
        let count = self.refused[cause as usize].fetch_add(1, Relaxed) + 1;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let last = &mut said[cause as usize];
        match *last {
            Some((at, _)) if now.saturating_duration_since(at) < SAY_AGAIN => None,
            before => {
                *last = Some((now, count));
                Some(count - before.map_or(0, |(_, count)| count))
            }
        }
    }

    /// For `/metrics`.
    pub fn exposition(&self) -> String {
        let issued = self.issued.load(Relaxed);
        let mut text = format!(
            "# HELP mesh_identity_certificates_total Certificates issued to proxies.\n\
             # TYPE mesh_identity_certificates_total counter\n\
             mesh_identity_certificates_total {issued}\n\
             # HELP mesh_identity_refusals_total Certificates that were asked for and refused.\n\
             # TYPE mesh_identity_refusals_total counter\n"
        );
        for (count, (_, name, _)) in self.refused.iter().zip(CAUSES) {
            let count = count.load(Relaxed);
            // Writing to a text cannot fail.
            let _ = writeln!(text, "mesh_identity_refusals_total{{cause=\"{name}\"}} {count}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_row() {
        for (at, (cause, ..)) in CAUSES.iter().enumerate() {
            assert_eq!(*cause as usize, at);
        }
    }

    #[test]
    fn a_flood_is_counted_and_said_once_in_a_while() {
        let certificates = Certificates::default();
        let start = Instant::now();
        let said = |at| certificates.refused(Cause::TokenExpired, start + Duration::from_millis(at));
        let first: Vec<u64> = (0..1_000).filter_map(said).collect();
        assert_eq!(first, [1]);
        assert_eq!(certificates.refused(Cause::TokenGone, start), Some(1), "another cause is not hidden");
        assert_eq!(said(11_000), Some(1_000));
        let text = certificates.exposition();
        assert!(text.contains("mesh_identity_refusals_total{cause=\"token_expired\"} 1001\n"), "{text}");
        assert!(text.contains("mesh_identity_refusals_total{cause=\"token_gone\"} 1\n"), "{text}");
    }
}
