//! After `101 Switching Protocols`, or 200 to CONNECT: bytes in both directions, unread.

use crate::{drain::Guard, forward, io::Stream};
use hyper::upgrade::OnUpgrade;
use tokio::task::spawn_local;

/// Joins the two sides once both have switched, until one ends or `cut` returns. Holds the drain: what is open goes on until the
/// grace period is over.
pub fn join(
    client: OnUpgrade,
    server: OnUpgrade,
    guard: Option<Guard>,
    cut: impl Future<Output = ()> + 'static,
) {
    spawn_local(async move {
        let (client, server) = match tokio::try_join!(client, server) {
            Ok(sides) => sides,
            Err(error) => return tracing::debug!(%error, "upgrade failed"),
        };
        let ended = tokio::select! {
            ended = forward::copy(Stream::upgraded(client), Stream::upgraded(server), &forward::Uncounted) => ended,
            () = cut => Ok(()),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "upgraded connection ended");
        }
        drop(guard);
    });
}
