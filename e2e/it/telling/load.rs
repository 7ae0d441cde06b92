//! Requests without a pause from within a Pod, while something is done to the cluster.

use super::inside::Inside;
use http::Request;
use mesh_tests::{
    client::Body,
    load::{Load, Outcome},
};
use std::{net::SocketAddr, time::Duration};
use tokio::{sync::oneshot, time};

/// What was broken shows a moment later, too.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// `rate_per_s` requests from within a Pod, from before `change` begins until a moment after it has ended.
pub async fn during<T>(
    inside: &Inside,
    to: SocketAddr,
    rate_per_s: u32,
    request: impl Fn() -> Request<Body> + Send + Clone + 'static,
    change: impl Future<Output = T>,
) -> (Vec<Outcome>, T) {
    let (begun, begins) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    let load = inside.run(async move || {
        let load = Load::start(to, rate_per_s, 4, request);
        let _ = begun.send(());
        let _ = ended.await;
        load.finish().await
    });
    let change = async {
        let _ = begins.await;
        let done = change.await;
        time::sleep(AFTERWARDS).await;
        drop(end);
        done
    };
    tokio::join!(load, change)
}
