//! A kernel that lacks a firewall, for programs that are started on it: their system calls are answered as they would be there,
//! by a filter (seccomp) that they cannot take off.

#![allow(unsafe_code)] // Filters have no safe form; each use says why it is sound.

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO,
    seccomp_data, sock_filter,
};
use std::{io, mem::offset_of, os::unix::process::CommandExt as _, process::Command};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The whole of netfilter's netlink.
    Nftables,
    /// ip_tables and ip6_tables.
    Iptables,
    /// Their table nat.
    Nat,
    /// A match or a target of them.
    Extensions,
}

/// A system call with these arguments, by their place, fails.
struct Answer {
    call: libc::c_long,
    arguments: [(usize, i32); 2],
    error: i32,
}

/// To be started on a kernel like that. Takes root.
pub fn without(missing: &[Missing], command: &mut Command) {
    let programs: Vec<_> =
        missing.iter().flat_map(|missing| missing.answers()).map(|a| a.program()).collect();
    let install = move || programs.iter().try_for_each(|program| filter(program));
    // SAFETY: runs between fork and exec; `prctl` is async-signal-safe, and nothing is allocated.
    unsafe { command.pre_exec(install) };
}

impl Missing {
    fn answers(self) -> Vec<Answer> {
        let answer = |call, arguments, error| Answer { call, arguments, error };
        if self == Missing::Nftables {
            let netfilter = [(0, libc::AF_NETLINK), (2, libc::NETLINK_NETFILTER)];
            return vec![answer(libc::SYS_socket, netfilter, libc::EPROTONOSUPPORT)];
        }
        let (options, error) = match self {
            Missing::Nftables | Missing::Iptables => (64..=69, libc::ENOPROTOOPT),
            Missing::Nat => (64..=65, libc::ENOENT),
            Missing::Extensions => (66..=69, libc::ENOENT),
        };
        let of_levels = |option| {
            [libc::IPPROTO_IP, libc::IPPROTO_IPV6]
                .map(|level| answer(libc::SYS_getsockopt, [(1, level), (2, option)], error))
        };
        options.flat_map(of_levels).collect()
    }
}

impl Answer {
    fn program(&self) -> Vec<sock_filter> {
        let load = |at: usize| step(BPF_LD | BPF_W | BPF_ABS, at as u32, 0);
        let mut program = vec![load(offset_of!(seccomp_data, nr)), unless(self.call as u32, 5)];
        for (steps, (place, value)) in [3, 1].into_iter().zip(self.arguments) {
            program.push(load(offset_of!(seccomp_data, args) + 8 * place));
            program.push(unless(value as u32, steps));
        }
        program.push(step(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | self.error as u32, 0));
        program.push(step(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0));
        program
    }
}

/// Unless what was loaded is this, so many steps are left out.
fn unless(value: u32, steps: u8) -> sock_filter {
    step(BPF_JMP | BPF_JEQ | BPF_K, value, steps)
}

fn step(code: u32, k: u32, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf, k }
}

fn filter(program: &[sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions through the pointer, which outlives the call, and keeps a copy.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
