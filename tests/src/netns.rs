//! A network of its own for the calling thread, so that stories may use the same addresses and ports side by side.
//! Where we may not make one (not root), stories take turns instead.

#![allow(unsafe_code)] // unshare and ioctl have no safe form; each use says why it is sound.

use std::{
    cell::Cell,
    fs::File,
    io,
    sync::{Mutex, MutexGuard},
};

static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether the calling thread has a network of its own, and with it every right on it.
    static IS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread's network is its own: it may then capture, route and redirect there, and nobody else notices.
pub fn is_own() -> bool {
    IS_OWN.get()
}

/// What keeps a story's addresses its own.
#[derive(Debug)]
pub enum Network {
    /// Ends with the last process in it.
    Namespace,
    /// The machine's own loopback; the guard and the locked file keep other stories and other test runs away.
    Turn { _story: MutexGuard<'static, ()>, _run: Option<File> },
}

/// Moves the calling thread, and what it starts from now on, into a network with nothing but loopback.
pub fn enter() -> Network {
    if isolate().is_ok() {
        IS_OWN.set(true);
        return Network::Namespace;
    }
    let story = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let run = File::create(std::env::temp_dir().join("mesh-tests.lock")).ok();
    if let Some(file) = &run {
        let _ = rustix::fs::flock(file, rustix::fs::FlockOperation::LockExclusive);
    }
    Network::Turn { _story: story, _run: run }
}

/// The same, for what cannot be told otherwise.
pub fn isolate() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET changes only which network the calling thread sees; no memory or descriptor is affected.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => loopback_up(),
        _ => Err(io::Error::last_os_error()),
    }
}

fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeroes is a valid `ifreq`; it is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq` through the pointer, which outlives the call; the descriptor is open.
    let answer = unsafe {
        libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS, &raw const request)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds a port that may have been given up a moment ago: an aborted server frees it with its next poll.
pub async fn listen(addr: std::net::SocketAddr) -> tokio::net::TcpListener {
    let what = format!("{addr} to be free");
    crate::wait::until(&what, std::time::Duration::from_secs(3), async || {
        tokio::net::TcpListener::bind(addr).await
    })
    .await
}
