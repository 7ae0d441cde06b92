//! Why a firewall was not changed, whichever it was.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("changing the firewall is not allowed: the capability NET_ADMIN is missing")]
    NotAllowed,
    #[error("the kernel has no {0}")]
    Missing(&'static str),
    #[error("the kernel refused {needs}: {error}")]
    Refused { needs: &'static str, error: io::Error },
    #[error("the table nat has entries that iptables does not make: where do they jump to?")]
    Unread,
    #[error("others change the table nat all the time: each time it was another before ours was in it")]
    Raced,
    #[error("ask the kernel: {0}")]
    Io(#[from] io::Error),
}
