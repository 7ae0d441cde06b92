//! Where a rule's requests go: backends, and the distributions over them.

use super::{Invalid, Result, duration, endpoint::endpoint, meta, required};
use crate::policy::{
    http::Backoff,
    outbound::{Backend, BackendKind, FailureAccrual, PeakEwma},
};
use linkerd2_proxy_api::outbound::{self as api, backend as api_backend};
use std::{collections::HashMap, sync::Arc};

/// Backends of one message: the same backend in several routes becomes one `Arc`, and with it one balancer.
#[derive(Default)]
pub struct Backends(Vec<(api::Backend, Arc<Backend>)>);

impl Backends {
    pub fn decode(&mut self, backend: Option<api::Backend>) -> Result<Arc<Backend>> {
        let backend = required("backend", backend)?;
        if let Some((_, known)) = self.0.iter().find(|(known, _)| *known == backend) {
            return Ok(known.clone());
        }
        let decoded = Arc::new(self::backend(backend.clone()).map_err(|invalid| invalid.at("backend"))?);
        self.0.push((backend, decoded.clone()));
        Ok(decoded)
    }
}

fn backend(backend: api::Backend) -> Result<Backend> {
    let queue = required("queue", backend.queue)?;
    let kind = match backend.kind {
        // Legal: the control plane names no such Service.
        None => BackendKind::Invalid,
        Some(api_backend::Kind::Forward(addr)) => BackendKind::Forward(Arc::new(
            endpoint(addr, &HashMap::new()).map_err(|invalid| invalid.at("forward"))?,
        )),
        Some(api_backend::Kind::Balancer(balancer)) => {
            balance(balancer).map_err(|invalid| invalid.at("balancer"))?
        }
    };
    Ok(Backend {
        meta: meta(backend.metadata)?,
        queue_capacity: usize::try_from(queue.capacity).unwrap_or(usize::MAX),
        failfast: duration("queue.failfast_timeout", queue.failfast_timeout)?,
        kind,
    })
}

fn balance(balancer: api_backend::BalanceP2c) -> Result<BackendKind> {
    let api_backend::endpoint_discovery::Kind::Dst(dst) =
        required("discovery", balancer.discovery.and_then(|discovery| discovery.kind))?;
    if dst.path.is_empty() {
        return Err(Invalid::missing("discovery.path"));
    }
    let (default_rtt, decay) = match required("load", balancer.load)? {
        api_backend::balance_p2c::Load::PeakEwma(load) => (load.default_rtt, load.decay),
        api_backend::balance_p2c::Load::PenaltyPeakEwma(load) => (load.default_rtt, load.decay),
    };
    let ewma =
        PeakEwma { default_rtt: duration("default_rtt", default_rtt)?, decay: duration("decay", decay)? };
    Ok(BackendKind::Balance { path: dst.path.into(), ewma })
}

/// Off unless there is one that counts failures in a row.
pub fn failure_accrual(accrual: Option<api::FailureAccrual>) -> Result<Option<FailureAccrual>> {
    let (max_failures, backoff) = match accrual.and_then(|accrual| accrual.kind) {
        None => return Ok(None),
        Some(api::failure_accrual::Kind::ConsecutiveFailures(consecutive)) => {
            (consecutive.max_failures, consecutive.backoff)
        }
        Some(api::failure_accrual::Kind::Unified(unified)) => {
            (unified.max_consecutive_failures, unified.backoff)
        }
    };
    let backoff = required("backoff", backoff).and_then(self::backoff);
    let backoff = backoff.map_err(|invalid| invalid.at("failure_accrual"))?;
    Ok((max_failures > 0).then_some(FailureAccrual { max_failures, backoff }))
}

pub fn backoff(backoff: api::ExponentialBackoff) -> Result<Backoff> {
    let min = duration("min_backoff", backoff.min_backoff)?;
    let max = duration("max_backoff", backoff.max_backoff)?;
    if min.is_zero() || min > max {
        return Err(Invalid::new(format!("min {min:?} is not within 0 and max {max:?}")).at("backoff"));
    }
    if !backoff.jitter_ratio.is_finite() || backoff.jitter_ratio < 0.0 {
        return Err(
            Invalid::new(format!("{} is not a ratio", backoff.jitter_ratio)).at("backoff.jitter_ratio")
        );
    }
    Ok(Backoff { min, max, jitter: backoff.jitter_ratio.min(1.0) })
}
