//! Which replica writes: the holder of a Lease. Whoever reads, signs and injects needs none.

use crate::standing::Standing;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::{future::pending, time::Duration};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

/// A holder that has not renewed for this long is gone. As long is nothing written when it dies without a word.
const DURATION: Duration = Duration::from_secs(15);
/// One that could not renew for this long stops: what it has under way ends before somebody else begins, however slow its clock.
const HOLD: Duration = Duration::from_secs(10);
const RENEW: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_secs(2);
/// After a question that had no answer.
const AGAIN: Duration = Duration::from_secs(1);
/// One question to the API server.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Without an answer for so long, we are cut off. Longer than the API server takes to start again.
const CUT_OFF: Duration = Duration::from_secs(90);

/// Keeps asking for the Lease, and tells whether we hold it, until `stop`; then gives it back, which takes `TIMEOUT` at most.
pub async fn run(
    client: Client,
    namespace: String,
    name: &'static str,
    me: String,
    holding: watch::Sender<bool>,
    standing: watch::Sender<Standing>,
    mut stop: watch::Receiver<bool>,
) {
    let api: Api<Lease> = Api::namespaced(client, &namespace);
    tokio::select! {
        () = keep(&api, name, &me, &holding, &standing) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    if !holding.send_replace(false) {
        return;
    }
    match time::timeout(TIMEOUT, give_back(&api, name, &me)).await {
        Ok(Ok(())) => tracing::info!(lease = name, "given back"),
        Ok(Err(error)) => {
            tracing::info!(lease = name, %error, "not given back; another replica waits for its end")
        }
        Err(_) => tracing::info!(lease = name, "not given back in time; another replica waits for its end"),
    }
}

/// Whatever the API server does, and however long it takes: we hold the Lease until `HOLD` after we sent the last renewal that
/// succeeded, and no longer.
async fn keep(
    api: &Api<Lease>,
    name: &str,
    me: &str,
    holding: &watch::Sender<bool>,
    standing: &watch::Sender<Standing>,
) {
    let mut seen = Seen::default();
    let mut answered = Instant::now();
    let mut until = None;
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            () = expiry(until) => (until, pause) = (None, Duration::ZERO),
            (sent, turn) = ask(api, name, me, &mut seen, pause) => {
                match turn {
                    Ok(Turn::Holds) => (until, pause) = (Some(sent + HOLD), RENEW.saturating_sub(sent.elapsed())),
                    Ok(Turn::Waits | Turn::Late) => (until, pause) = (None, LOOK),
                    Err(_) => pause = AGAIN,
                }
                if !turn.as_ref().is_err_and(is_silent) {
                    answered = Instant::now();
                }
                let cut_off = answered.elapsed() > CUT_OFF;
                standing.send_if_modified(|now| {
                    let elsewhere = match turn {
                        Ok(Turn::Holds) => false,
                        Ok(Turn::Waits) => true,
                        // While nobody says who writes, it is who it was.
                        Ok(Turn::Late) | Err(_) => now.elsewhere,
                    };
                    let next = Standing { elsewhere, cut_off };
                    std::mem::replace(now, next) != next
                });
            }
        }
        let holds = until.is_some();
        if holding.send_if_modified(|now| std::mem::replace(now, holds) != holds) {
            tracing::info!(lease = name, holds, "who writes has changed");
        }
    }
}

async fn expiry(until: Option<Instant>) {
    match until {
        Some(until) => time::sleep_until(until).await,
        None => pending().await,
    }
}

/// What became of a turn, and when it began.
async fn ask(
    api: &Api<Lease>,
    name: &str,
    me: &str,
    seen: &mut Seen,
    pause: Duration,
) -> (Instant, kube::Result<Turn>) {
    time::sleep(pause).await;
    let sent = Instant::now();
    let turn = turn(api, name, me, seen).await;
    if let Err(error) = &turn {
        tracing::debug!(%error, "the Lease could not be asked for");
    }
    (sent, turn)
}

/// One question, which is answered in time or not at all.
async fn in_time<T>(question: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = |_| Err(kube::Error::Service("no answer in time".into()));
    time::timeout(TIMEOUT, question).await.unwrap_or_else(late)
}

/// Whether nobody has answered who could know.
fn is_silent(error: &kube::Error) -> bool {
    !matches!(error, kube::Error::Api(status) if status.code < 500)
}

/// The Lease as it was when it last changed. Only our own clock counts: those of others may be wrong.
#[derive(Debug, Default)]
struct Seen {
    spec: Option<LeaseSpec>,
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Ours: say so again.
    Renew,
    /// Nobody's, or of somebody who is gone.
    Take,
    Wait,
}

fn step(spec: &LeaseSpec, seen: &mut Seen, me: &str, now: Instant) -> Step {
    if seen.spec.as_ref() != Some(spec) {
        *seen = Seen { spec: Some(spec.clone()), since: Some(now) };
    }
    match spec.holder_identity.as_deref() {
        Some(holder) if holder == me => Step::Renew,
        None | Some("") => Step::Take,
        Some(_) => match seen.since {
            Some(since) if now.saturating_duration_since(since) > DURATION => Step::Take,
            _ => Step::Wait,
        },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It is ours.
    Holds,
    /// It is somebody else's.
    Waits,
    /// Somebody has changed it at the same time.
    Late,
}

async fn turn(api: &Api<Lease>, name: &str, me: &str, seen: &mut Seen) -> kube::Result<Turn> {
    let Some(lease) = in_time(api.get_opt(name)).await? else {
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(claim(&LeaseSpec::default(), me, Timestamp::now())) };
        return written(in_time(api.create(&PostParams::default(), &lease)).await);
    };
    let spec = lease.spec.clone().unwrap_or_default();
    match step(&spec, seen, me, Instant::now()) {
        Step::Wait => Ok(Turn::Waits),
        Step::Renew | Step::Take => {
            // Its resource version makes this fail when somebody was faster.
            let lease = Lease { spec: Some(claim(&spec, me, Timestamp::now())), ..lease };
            written(in_time(api.replace(name, &PostParams::default(), &lease)).await)
        }
    }
}

fn written(lease: kube::Result<Lease>) -> kube::Result<Turn> {
    match lease {
        Ok(_) => Ok(Turn::Holds),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(Turn::Late),
        Err(error) => Err(error),
    }
}

fn claim(before: &LeaseSpec, me: &str, now: Timestamp) -> LeaseSpec {
    let again = before.holder_identity.as_deref() == Some(me);
    LeaseSpec {
        holder_identity: Some(me.into()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: before.acquire_time.clone().filter(|_| again).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!again)),
        ..LeaseSpec::default()
    }
}

async fn give_back(api: &Api<Lease>, name: &str, me: &str) -> kube::Result<()> {
    let lease = api.get(name).await?;
    let spec = lease.spec.clone().unwrap_or_default();
    if spec.holder_identity.as_deref() == Some(me) {
        let free = LeaseSpec { holder_identity: None, ..spec };
        api.replace(name, &PostParams::default(), &Lease { spec: Some(free), ..lease }).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::ApiServer;
    use serde_json::{Value, json};

    fn held_by(holder: Option<&str>, renewed_s: i64) -> LeaseSpec {
        let at = Timestamp::from_second(renewed_s).unwrap();
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            renew_time: Some(MicroTime(at)),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_or_has_not_moved_for_its_time() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut seen = Seen::default();
        assert_eq!(step(&held_by(Some("a"), 0), &mut seen, "a", start), Step::Renew);
        assert_eq!(step(&held_by(None, 0), &mut seen, "b", start), Step::Take);
        assert_eq!(step(&held_by(Some(""), 0), &mut seen, "b", start), Step::Take);
        // The holder's clock may say anything.
        assert_eq!(step(&held_by(Some("a"), 1), &mut seen, "b", start), Step::Wait);
        assert_eq!(step(&held_by(Some("a"), 1), &mut seen, "b", after(14)), Step::Wait);
        assert_eq!(step(&held_by(Some("a"), 2), &mut seen, "b", after(16)), Step::Wait, "it was renewed");
        assert_eq!(step(&held_by(Some("a"), 2), &mut seen, "b", after(32)), Step::Take);
    }

    #[test]
    fn a_claim_counts_changes_of_the_holder() {
        let now = Timestamp::from_second(100).unwrap();
        let first = claim(&LeaseSpec::default(), "a", Timestamp::from_second(1).unwrap());
        let again = claim(&first, "a", now);
        assert_eq!((again.lease_transitions, &again.acquire_time), (Some(1), &first.acquire_time));
        let other = claim(&again, "b", now);
        assert_eq!((other.lease_transitions, other.acquire_time), (Some(2), Some(MicroTime(now))));
    }

    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/mesh/leases";

    /// A replica that asks a scripted API server.
    struct Replica {
        server: ApiServer,
        holding: watch::Receiver<bool>,
        standing: watch::Receiver<Standing>,
        stop: watch::Sender<bool>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Replica {
        async fn that_holds() -> Replica {
            let server = ApiServer::new(&[]);
            server
                .put(LEASES, json!({"metadata": {"name": "mesh-operator", "namespace": "mesh"}, "spec": {}}));
            let (hold, mut holding) = watch::channel(false);
            let (stop, stopped) = watch::channel(false);
            let (stand, standing) = watch::channel(Standing::default());
            let (client, me) = (server.client(), "a".into());
            let task = tokio::spawn(run(client, "mesh".into(), "mesh-operator", me, hold, stand, stopped));
            holding.wait_for(|holding| *holding).await.unwrap();
            Replica { server, holding, standing, stop, task }
        }

        fn holder(&self) -> Value {
            self.server.object(LEASES, "mesh/mesh-operator")["spec"]["holderIdentity"].clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_is_not_answered_stops_before_its_time_is_over() {
        let mut replica = Replica::that_holds().await;
        // Whenever it begins, before a renewal or after one.
        for after_ms in [0, 1_000, 2_990, 3_010, 4_000] {
            time::sleep(Duration::from_millis(after_ms)).await;
            let renewed = Instant::now();
            replica.server.stall(true);
            replica.holding.wait_for(|holding| !holding).await.unwrap();
            assert!(renewed.elapsed() <= HOLD, "after {after_ms} ms: held for {:?}", renewed.elapsed());
            replica.server.stall(false);
            replica.holding.wait_for(|holding| *holding).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_without_an_answer_is_asked_again_while_the_lease_is_held() {
        let mut replica = Replica::that_holds().await;
        replica.server.away(Some(500));
        time::sleep(Duration::from_secs(8)).await;
        replica.server.away(None);
        let lost = replica.holding.wait_for(|holding| !holding);
        assert!(time::timeout(Duration::from_secs(60), lost).await.is_err(), "it was back in time");
    }

    #[tokio::test(start_paused = true)]
    async fn one_question_that_hangs_does_not_cost_the_lease() {
        let mut replica = Replica::that_holds().await;
        // From just before a renewal until its time is over.
        time::sleep(RENEW - Duration::from_millis(10)).await;
        replica.server.stall(true);
        time::sleep(Duration::from_millis(20) + TIMEOUT).await;
        replica.server.stall(false);
        let lost = replica.holding.wait_for(|holding| !holding);
        assert!(time::timeout(Duration::from_secs(60), lost).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_loses_it_knows_that_another_writes_and_who_hears_nothing_that_it_is_cut_off() {
        let mut replica = Replica::that_holds().await;
        assert_eq!(*replica.standing.borrow(), Standing::default());
        let start = Instant::now();
        replica.server.stall(true);
        replica.standing.wait_for(|own| own.cut_off).await.unwrap();
        let took = start.elapsed();
        assert!(took > CUT_OFF && took < CUT_OFF + 3 * TIMEOUT, "{took:?}");
        assert!(!replica.standing.borrow().elsewhere, "nobody has said so");
        let other = json!({"holderIdentity": "b", "renewTime": "2026-01-01T00:00:00.000000Z"});
        replica
            .server
            .put(LEASES, json!({"metadata": {"name": "mesh-operator", "namespace": "mesh"}, "spec": other}));
        replica.server.stall(false);
        let mut standing = replica.standing.clone();
        let heard = standing.wait_for(|own| *own == Standing { elsewhere: true, cut_off: false });
        heard.await.unwrap();
        // The other does not renew.
        standing.wait_for(|own| *own == Standing::default()).await.unwrap();
        assert_eq!(replica.holder(), "a");
    }

    #[tokio::test(start_paused = true)]
    async fn who_ends_has_given_it_back() {
        let mut replica = Replica::that_holds().await;
        assert_eq!(replica.holder(), "a");
        replica.stop.send_replace(true);
        (&mut replica.task).await.unwrap();
        assert_eq!(replica.holder(), Value::Null);
        assert!(!*replica.holding.borrow());
    }
}
