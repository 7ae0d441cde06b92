//! What ends the proxy: SIGTERM, SIGINT, or `POST /shutdown`.

use std::{fmt, io, sync::Arc};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

/// Ends the proxy from within, as SIGTERM does from outside.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(Arc<Notify>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Terminate,
    Interrupt,
    Asked,
}

impl Shutdown {
    /// Remembered when nobody waits yet.
    pub fn request(&self) {
        self.0.notify_one();
    }
}

/// Returns at the first of them.
pub async fn wait(shutdown: &Shutdown) -> io::Result<Cause> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => Cause::Terminate,
        _ = interrupt.recv() => Cause::Interrupt,
        () = shutdown.0.notified() => Cause::Asked,
    })
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Terminate => "SIGTERM",
            Cause::Interrupt => "SIGINT",
            Cause::Asked => "POST /shutdown",
        })
    }
}
