//! Every byte on loopback, as a packet capture sees it. Needs root; where that is missing a test looks at a `Relay` instead.

#![allow(unsafe_code)] // Packet sockets have no safe form in std; each use says why it is sound.

use crate::netns;
use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A running capture of all TCP traffic of one port in the calling thread's network.
#[derive(Debug)]
pub struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    stop: Arc<AtomicBool>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Capture {
    /// `None` where we may not capture. In a network of our own we may.
    pub fn start(port: u16) -> Option<Capture> {
        let socket = match packet_socket() {
            Ok(socket) => socket,
            Err(error) if netns::is_own() => panic!("cannot capture packets: {error}"),
            Err(_) => return None,
        };
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (keep, stopped) = (Arc::clone(&bytes), Arc::clone(&stop));
        let reader = thread::spawn(move || {
            let mut packet = vec![0; 128 * 1024];
            loop {
                // The socket has a receive timeout: `stop` is seen once nothing is left to read.
                let Ok((read, _)) =
                    rustix::net::recv(&socket, &mut packet[..], rustix::net::RecvFlags::empty())
                else {
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    continue;
                };
                if let Some(payload) = tcp_payload(&packet[..read], port) {
                    keep.lock().expect("no test panics with this lock").extend_from_slice(payload);
                }
            }
        });
        Some(Capture { bytes, stop, reader: Some(reader) })
    }

    /// Ends the capture and returns the payload of every packet.
    pub fn finish(mut self) -> Vec<u8> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        std::mem::take(&mut *self.bytes.lock().expect("no test panics with this lock"))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Receives whole IP packets, without link headers.
fn packet_socket() -> io::Result<OwnedFd> {
    let every_protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: `socket` takes three numbers and returns a new descriptor or an error.
    let raw = unsafe {
        libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, every_protocol.into())
    };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let wait = Some(std::time::Duration::from_millis(50));
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, wait)?;
    // A burst must not be lost while the reader sleeps.
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 16 << 20)
        .or_else(|_| rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20))?;
    Ok(socket)
}

/// The payload of an IPv4 TCP packet from or to a port.
fn tcp_payload(packet: &[u8], port: u16) -> Option<&[u8]> {
    const TCP: u8 = 6;
    if packet.first()? >> 4 != 4 || *packet.get(9)? != TCP {
        return None;
    }
    let segment = packet.get(usize::from(packet[0] & 0x0f) * 4..)?;
    let number = |at: usize| Some(u16::from_be_bytes([*segment.get(at)?, *segment.get(at + 1)?]));
    if number(0)? != port && number(2)? != port {
        return None;
    }
    segment.get(usize::from(segment.get(12)? >> 4) * 4..)
}
