//! The annotations on Services and routes that say how to time out, retry and set failing endpoints aside.

use crate::{
    duration,
    outbound::{Accrual, GrpcCondition, Retry, RetryOn},
};
use mesh_api::names;
use std::{collections::BTreeMap, time::Duration};

/// Shortest wait between tries where nothing else is asked for.
pub const BACKOFF: Duration = Duration::from_millis(25);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Of these, `None` where nothing is said, `Some(None)` where it is said that there is none.
    pub request_timeout: Option<Option<Duration>>,
    pub http_retry: Option<Option<Retry>>,
    pub grpc_retry: Option<Option<Retry>>,
    pub accrual: Option<Accrual>,
}

/// Reads what can be read; `bad` says what cannot.
pub fn read(annotations: &BTreeMap<String, String>, bad: &mut Vec<String>) -> Options {
    let mut reader = Reader { annotations, bad };
    let request_timeout = reader.value(names::TIMEOUT_REQUEST, duration::limit);
    let limit = reader.number(names::RETRY_LIMIT);
    let timeout = reader.duration(names::RETRY_TIMEOUT).filter(|limit| !limit.is_zero());
    let statuses = reader.value(names::RETRY_HTTP, statuses).map(RetryOn::Statuses);
    let conditions = reader.value(names::RETRY_GRPC, conditions).map(RetryOn::Grpc);
    let retry = |on: Option<RetryOn>| match limit {
        Some(0) => Some(None),
        limit => on.map(|on| Some(Retry { limit: limit.unwrap_or(1), on, timeout, backoff: BACKOFF })),
    };
    Options {
        request_timeout,
        http_retry: retry(statuses),
        grpc_retry: retry(conditions),
        accrual: reader.accrual(),
    }
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    bad: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn value<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match read(self.annotations.get(name)?.trim()) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.bad.push(format!("annotation {name} is ignored: {reason}"));
                None
            }
        }
    }

    fn duration(&mut self, name: &str) -> Option<Duration> {
        self.value(name, duration::gateway)
    }

    fn number(&mut self, name: &str) -> Option<u32> {
        self.value(name, |text| {
            text.parse()
                .ok()
                .filter(|number| *number <= 100)
                .ok_or_else(|| format!("{text:?} is no number from 0 to 100"))
        })
    }

    fn accrual(&mut self) -> Option<Accrual> {
        self.value(names::FAILURE_ACCRUAL, |text| match text {
            "consecutive" => Ok(()),
            _ => Err(format!("{text:?} is unknown (want consecutive)")),
        })?;
        let max_failures =
            self.number(names::FAILURE_ACCRUAL_MAX_FAILURES).filter(|failures| *failures > 0).unwrap_or(7);
        let min_penalty = self.duration(names::FAILURE_ACCRUAL_MIN_PENALTY).unwrap_or(Duration::from_secs(1));
        let max_penalty =
            self.duration(names::FAILURE_ACCRUAL_MAX_PENALTY).unwrap_or(Duration::from_secs(60));
        // A proxy refuses a back-off whose end lies before its start, or that never waits.
        let min_penalty = min_penalty.max(Duration::from_millis(1));
        Some(Accrual { max_failures, min_penalty, max_penalty: max_penalty.max(min_penalty) })
    }
}

fn statuses(text: &str) -> Result<Vec<(u16, u16)>, String> {
    let mut ranges = vec![];
    for item in text.split(',').map(str::trim) {
        let number = |text: &str| text.parse::<u16>().ok().filter(|status| (100..600).contains(status));
        let range = match item {
            "5xx" => Some((500, 599)),
            "gateway-error" => Some((502, 504)),
            _ => {
                let (low, high) = item.split_once('-').unwrap_or((item, item));
                number(low).zip(number(high)).filter(|(low, high)| low <= high)
            }
        };
        ranges.push(
            range.ok_or_else(|| format!("{item:?} is unknown (want 5xx, gateway-error, 503 or 500-504)"))?,
        );
    }
    Ok(ranges)
}

fn conditions(text: &str) -> Result<Vec<GrpcCondition>, String> {
    let mut conditions = vec![];
    for item in text.split(',').map(str::trim) {
        conditions.push(match item {
            "cancelled" => GrpcCondition::Cancelled,
            "deadline-exceeded" => GrpcCondition::DeadlineExceeded,
            "internal" => GrpcCondition::Internal,
            "resource-exhausted" => GrpcCondition::ResourceExhausted,
            "unavailable" => GrpcCondition::Unavailable,
            _ => {
                let want = "cancelled, deadline-exceeded, internal, resource-exhausted or unavailable";
                return Err(format!("{item:?} is unknown (want {want})"));
            }
        });
    }
    conditions.sort();
    conditions.dedup();
    Ok(conditions)
}
