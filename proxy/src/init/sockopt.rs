//! The exchange with the kernel about its legacy tables: socket options, with structs of its uapi as bytes.
//!
//! The kernel looks for NET_ADMIN, not at what the socket is for. So it is a datagram socket, which anyone may have: for the raw
//! one of iptables(8) it would take NET_RAW, too.

#![allow(unsafe_code)] // socket2 and rustix have no form for these options; each use says why it is sound.

use super::{
    error::Error,
    plan::Family,
    xtables::{Block, COUNTERS_BYTES, Extension, INFO_BYTES, Info, Kind, TABLE_NAME, padded},
};
use socket2::{Domain, Socket, Type};
use std::{io, os::fd::AsRawFd as _};

// Options of either family.
const REPLACE: i32 = 64;
const INFO: i32 = 64;
const ENTRIES: i32 = 65;

const NEEDS_IP_TABLES: &str =
    "ip_tables (CONFIG_IP_NF_IPTABLES, lately …_LEGACY, and IP6; modules ip_tables, ip6_tables)";
const NEEDS_NAT: &str = "table nat (CONFIG_IP_NF_NAT, CONFIG_IP6_NF_NAT; modules iptable_nat, ip6table_nat)";
const NEEDS_REPLACE: &str = "match or target that a rule in the table nat names";
const NAT: &[u8] = b"nat";

/// Head of `struct ipt_get_entries`: a name, a size, and nothing up to the entries' alignment.
const GET_ENTRIES: usize = TABLE_NAME + 8;
/// `XT_EXTENSION_MAXNAMELEN` and a revision: `struct xt_get_revision`.
const REVISION: usize = 30;

/// The kernel's table nat of one family.
#[derive(Debug)]
pub struct Nat {
    socket: Socket,
    level: i32,
    /// Options that ask for the revision of a match and of a target.
    revisions: [i32; 2],
}

impl Nat {
    pub fn open(family: Family) -> Result<Nat, Error> {
        let (domain, level, revisions) = match family {
            Family::V4 => (Domain::IPV4, libc::IPPROTO_IP, [66, 67]),
            Family::V6 => (Domain::IPV6, libc::IPPROTO_IPV6, [68, 69]),
        };
        Ok(Nat { socket: Socket::new(domain, Type::DGRAM, None)?, level, revisions })
    }

    /// Fails where the kernel does not know it; loads its module where there is one.
    pub fn knows(&self, extension: &Extension) -> Result<(), Error> {
        let mut revision = padded(extension.name.as_bytes(), REVISION);
        revision[REVISION - 1] = extension.revision;
        let option = match extension.kind {
            Kind::Match => self.revisions[0],
            Kind::Target => self.revisions[1],
        };
        self.get(option, &mut revision, extension.needs)
    }

    pub fn read(&self) -> Result<Block, Error> {
        let mut info = padded(NAT, INFO_BYTES);
        self.get(INFO, &mut info, NEEDS_NAT)?;
        let info = Info::decode(&info);
        let mut entries = padded(NAT, GET_ENTRIES + info.size as usize);
        entries[TABLE_NAME..TABLE_NAME + 4].copy_from_slice(&info.size.to_ne_bytes());
        self.get(ENTRIES, &mut entries, NEEDS_NAT)?;
        Ok(Block { info, entries: entries.split_off(GET_ENTRIES) })
    }

    /// Puts `new` in the place of `old`, whole or not at all. Lost races are noticed by the number of entries: the kernel has no
    /// other way.
    pub fn replace(&self, old: &Block, new: &Block) -> Result<(), Error> {
        // The old counters come back, if somebody wants them.
        let mut counters = vec![0_u8; old.info.entries as usize * COUNTERS_BYTES];
        let mut replace = new.info.replace(NAT, old.info.entries);
        replace.extend_from_slice(&(counters.as_mut_ptr() as usize).to_ne_bytes());
        replace.extend_from_slice(&new.entries);
        // SAFETY: the socket is open and the kernel reads as many bytes as `replace` has. It writes as many counters as there were
        // entries in `old`, the number that it is told and that `counters` has room for, and fails if it has another number.
        let answer = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                self.level,
                REPLACE,
                replace.as_ptr().cast(),
                replace.len() as libc::socklen_t,
            )
        };
        outcome(answer, NEEDS_REPLACE)
    }

    fn get(&self, option: i32, value: &mut [u8], needs: &'static str) -> Result<(), Error> {
        let mut length = value.len() as libc::socklen_t;
        // SAFETY: the socket is open, and the kernel reads and writes at most `length` bytes of `value`, which has as many. The
        // options that are asked for hold no pointers.
        let answer = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                self.level,
                option,
                value.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        outcome(answer, needs)
    }
}

/// Of the system call that just ended. A revision is answered by a number, too.
fn outcome(answer: i32, needs: &'static str) -> Result<(), Error> {
    match answer {
        0.. => Ok(()),
        _ => Err(cause(io::Error::last_os_error(), needs)),
    }
}

fn cause(error: io::Error, needs: &'static str) -> Error {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Error::NotAllowed,
        // Nobody has these options.
        Some(libc::ENOPROTOOPT) => Error::Missing(NEEDS_IP_TABLES),
        Some(libc::ENOENT | libc::EPROTONOSUPPORT) => Error::Missing(needs),
        Some(libc::EAGAIN) => Error::Raced,
        Some(_) | None => Error::Refused { needs, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_the_kernel_lacks() {
        for (code, want) in [
            (libc::ENOPROTOOPT, format!("the kernel has no {NEEDS_IP_TABLES}")),
            (libc::ENOENT, "the kernel has no match owner".to_owned()),
            (libc::EPROTONOSUPPORT, "the kernel has no match owner".to_owned()),
            (libc::EPERM, Error::NotAllowed.to_string()),
            (libc::EAGAIN, Error::Raced.to_string()),
            (libc::EINVAL, "the kernel refused match owner: Invalid argument (os error 22)".to_owned()),
        ] {
            let cause = cause(io::Error::from_raw_os_error(code), "match owner");
            assert_eq!(cause.to_string(), want);
        }
    }
}
