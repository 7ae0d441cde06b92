//! Keeps the credentials fresh: the first certificate, renewals at 70 % of life, new trust anchors as they appear.

use super::{Credentials, Issued, anchors::Anchors, certify::certify};
use crate::{
    complaint::Complaint,
    config,
    control::{backoff::Backoff, calls::Channel},
    ready::Block,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, time};
use tracing::{info, warn};

/// After a failure; short enough to be ready within 2 s of the signer's return.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_millis(1500);
/// Due times are wall-clock times, which go on while the machine sleeps, and may be set: look again at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// What clocks are set back by without harm: certificates are made valid from a little before their making.
const SET_BACK: Duration = Duration::from_secs(10);

/// A signer that has failed so often in a row is left, and the next connection may find another.
const TRIES: u32 = 3;

/// Runs for the process's life. `connect` makes a connection to a signer: one for each certificate, since they are far apart. `block`
/// holds readiness until the first certificate.
pub async fn run(
    config: config::Identity,
    connect: impl Fn() -> Channel,
    mut anchors: watch::Receiver<Anchors>,
    publish: watch::Sender<Option<Arc<Credentials>>>,
    block: Block,
) {
    let mut block = Some(block);
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut complaint = Complaint::default();
    let mut issued: Option<Issued> = None;
    let mut made = SystemTime::now();
    let mut due = made;
    let (mut signer, mut failures) = (None, 0);
    // Certificates in a row that are not under the first trust anchor.
    let mut early = 0;
    loop {
        tokio::select! {
            () = sleep_until(due, made) => {
                let trusted = anchors.borrow().clone();
                match renew(&config, signer.get_or_insert_with(&connect), &trusted).await {
                    Ok((new, credentials)) => {
                        let now = SystemTime::now();
                        (made, due) = (now, now + renewal(new.life(now), &config));
                        (signer, failures) = (None, 0);
                        if new.is_under_first(&trusted, &config.name) {
                            early = 0;
                        } else {
                            due = due.min(now + too_early(early, &config));
                            early += 1;
                        }
                        info!(identity = %config.name, life_s = new.life(now).as_secs(), "certificate issued");
                        publish.send_replace(Some(Arc::new(credentials)));
                        issued = Some(new);
                        block.take();
                        backoff.reset();
                        complaint = Complaint::default();
                    }
                    Err(error) => {
                        complaint.tell(&match issued {
                            Some(_) => format!("renew certificate: {error}; keeping the old one and trying again"),
                            None => format!("get first certificate: {error}; not ready, trying again"),
                        });
                        made = SystemTime::now();
                        due = made + backoff.delay(fastrand::f64());
                        failures += 1;
                        if failures % TRIES == 0 {
                            signer = None;
                        }
                    }
                }
            }
            Ok(()) = anchors.changed() => {
                let Some(old) = issued.as_mut() else { continue };
                let trusted = anchors.borrow_and_update().clone();
                old.material = old.material.with_roots(trusted.roots.clone());
                // Peers with the new anchors may not believe a certificate under the old ones: ask for another at once.
                if let Err(error) = old.material.verify(&config.name) {
                    warn!(%error, "our certificate does not chain to the new trust anchors; renewing");
                    due = SystemTime::now();
                } else if !old.is_under_first(&trusted, &config.name) {
                    // The anchors are being rotated: the old one goes when nobody's certificate is under it any more. Not asked for
                    // by all proxies at once.
                    info!("our certificate is not under the first trust anchor; renewing soon");
                    early = 0;
                    due = due.min(SystemTime::now() + config.min_refresh.mul_f64(fastrand::f64()));
                }
                match Credentials::new(&config.name, old, &trusted) {
                    Ok(credentials) => { publish.send_replace(Some(Arc::new(credentials))); }
                    Err(error) => warn!(%error, "new trust anchors are not usable"),
                }
            }
        }
    }
}

async fn renew(
    config: &config::Identity,
    signer: &Channel,
    anchors: &Anchors,
) -> Result<(Issued, Credentials), super::certify::Error> {
    let issued = certify(config, signer, anchors.roots.clone()).await?;
    let credentials = Credentials::new(&config.name, &issued, anchors)?;
    Ok((issued, credentials))
}

/// When to ask again for a certificate under the first trust anchor, after so many that were not: the signer that was asked may not have
/// heard yet. Ever more seldom, as whoever brings an issuer of their own may have their anchors in any order.
fn too_early(before: u32, config: &config::Identity) -> Duration {
    let base = config.min_refresh.max(Duration::from_secs(1)) * 2u32.pow(before.min(10));
    base.mul_f64(3.0 + 3.0 * fastrand::f64())
}

/// Renew after 70 % of what is left, within the configured bounds, and in any case before the end.
fn renewal(left: Duration, config: &config::Identity) -> Duration {
    left.mul_f64(0.7).clamp(config.min_refresh, config.max_refresh).min(left.mul_f64(0.9))
}

/// Waits for a time, or until the clock is before the one at which that was set: what was made then is not valid yet.
async fn sleep_until(due: SystemTime, set: SystemTime) {
    while let Some(left) = left(SystemTime::now(), due, set) {
        time::sleep(left.min(LOOK_AGAIN)).await;
    }
}

fn left(now: SystemTime, due: SystemTime, set: SystemTime) -> Option<Duration> {
    let is_set_back = now + SET_BACK < set;
    due.duration_since(now).ok().filter(|left| !left.is_zero() && !is_set_back)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrustAnchors;

    #[test]
    fn a_clock_that_is_set_makes_a_certificate_due() {
        let (set, hour) =
            (SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000), Duration::from_secs(3600));
        let due = set + 17 * hour;
        assert_eq!(left(set + hour, due, set), Some(16 * hour));
        assert_eq!(left(set + 18 * hour, due, set), None, "forward");
        assert_eq!(left(set - hour, due, set), None, "back");
        assert_eq!(left(set - SET_BACK, due, set), Some(17 * hour + SET_BACK), "a correction");
    }

    fn bounds(min_s: u64, max_s: u64) -> config::Identity {
        config::Identity {
            name: "web.demo.serviceaccount.identity.mesh.cluster.local".into(),
            token_file: "token".into(),
            trust_anchors: TrustAnchors::Pem(String::new()),
            min_refresh: Duration::from_secs(min_s),
            max_refresh: Duration::from_secs(max_s),
        }
    }

    #[test]
    fn a_day_is_renewed_after_seventy_percent() {
        let day = Duration::from_secs(86_400);
        assert_eq!(renewal(day, &bounds(10, 86_400)), day.mul_f64(0.7));
        assert_eq!(renewal(day, &bounds(10, 3_600)), Duration::from_secs(3_600));
    }

    proptest::proptest! {
        #[test]
        fn renewal_is_before_the_end(left_ms in 1u64..10_000_000, min_s in 0u64..1_000, more_s in 0u64..1_000) {
            let left = Duration::from_millis(left_ms);
            proptest::prop_assert!(renewal(left, &bounds(min_s, min_s + more_s)) < left);
        }
    }
}
