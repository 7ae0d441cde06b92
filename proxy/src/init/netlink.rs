//! Netlink messages to nf_tables, as bytes, and their exchange with the kernel: a batch is applied whole, or not at all.
//!
//! Of our own because the binary is static and small: the crates for this bind C libraries or call the program `nft`.

use super::error::Error;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, Read as _},
    time::Duration,
};

const AF_NETLINK: i32 = 16;
const NETLINK_NETFILTER: i32 = 12;
const ERROR: u16 = 2;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NF_TABLES: u16 = 10;

const NESTED: u16 = 0x8000;
/// Of a message, and of an attribute.
const HEADER: usize = 16;

/// The kernel answers at once, if at all.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Messages that are applied together.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    family: u8,
    /// What each message needs of the kernel; a message's number is its place.
    needs: Vec<&'static str>,
    last: usize,
}

impl Batch {
    pub fn new(family: u8) -> Batch {
        let mut batch = Batch { bytes: Vec::new(), family, needs: Vec::new(), last: 0 };
        batch.frame(BATCH_BEGIN, 0, 0, NF_TABLES, "nf_tables (CONFIG_NF_TABLES)", |_| {});
        batch
    }

    pub fn push(
        &mut self,
        message: u16,
        flags: u16,
        needs: &'static str,
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.last = self.bytes.len();
        self.frame(NF_TABLES << 8 | message, flags, self.family, 0, needs, attributes);
    }

    fn frame(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        needs: &'static str,
        attributes: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        let number = self.needs.len() as u32;
        self.needs.push(needs);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&number.to_ne_bytes());
        // The port: the kernel fills in ours.
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        attributes(&mut Attributes(&mut self.bytes));
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Applies it, or says why not.
    pub fn apply(mut self) -> Result<(), Error> {
        // One acknowledgement is enough: errors come before it, and unasked.
        let flags = self.last + 6;
        let asked = u16::from_ne_bytes([self.bytes[flags], self.bytes[flags + 1]]) | ACK;
        self.bytes[flags..flags + 2].copy_from_slice(&asked.to_ne_bytes());
        self.frame(BATCH_END, 0, 0, NF_TABLES, "nf_tables (CONFIG_NF_TABLES)", |_| {});

        let protocol = Some(Protocol::from(NETLINK_NETFILTER));
        let mut socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, protocol).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => Error::Missing("netfilter"),
                _ => Error::Io(error),
            }
        })?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.send(&self.bytes)?;
        let mut buffer = [0; 16_384];
        loop {
            let read = socket.read(&mut buffer)?;
            if let Some(outcome) = self.outcome(&buffer[..read]) {
                return outcome;
            }
        }
    }

    /// The first answer in `bytes`.
    fn outcome(&self, bytes: &[u8]) -> Option<Result<(), Error>> {
        let mut rest = bytes;
        while rest.len() >= HEADER + 4 {
            let word = |at: usize| [rest[at], rest[at + 1], rest[at + 2], rest[at + 3]];
            let length = u32::from_ne_bytes(word(0)) as usize;
            let (kind, number) = (u16::from_ne_bytes([rest[4], rest[5]]), u32::from_ne_bytes(word(8)));
            if kind == ERROR {
                let needs = self.needs.get(number as usize).copied().unwrap_or("the rules");
                return Some(match -i32::from_ne_bytes(word(HEADER)) {
                    0 => Ok(()),
                    libc::EPERM | libc::EACCES => Err(Error::NotAllowed),
                    // What is asked for is made by us, so that what is not found is the kernel's own.
                    libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT => {
                        Err(Error::Missing(needs))
                    }
                    code => Err(Error::Refused { needs, error: io::Error::from_raw_os_error(code) }),
                });
            }
            rest = rest.get(aligned(length).max(HEADER)..).unwrap_or_default();
        }
        None
    }
}

/// The attributes of one message. Numbers are in network order, as nf_tables has them.
#[derive(Debug)]
pub struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |inner| inner.0.extend_from_slice(value));
    }

    /// With the NUL at its end.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.nest(kind, |inner| {
            inner.0.extend_from_slice(value.as_bytes());
            inner.0.push(0);
        });
    }

    pub fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub fn nested(&mut self, kind: u16, inner: impl FnOnce(&mut Attributes<'_>)) {
        self.nest(kind | NESTED, inner);
    }

    fn nest(&mut self, kind: u16, inner: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        inner(&mut Attributes(self.0));
        let length = self.0.len() - start;
        self.0[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        self.0.resize(start + aligned(length), 0);
    }
}

/// To the next multiple of four.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's answer to the message with this number.
    fn answer(number: u32, code: i32) -> Vec<u8> {
        let original = [0; HEADER];
        let length = (HEADER + 4 + original.len()) as u32;
        let head = [&length.to_ne_bytes()[..], &ERROR.to_ne_bytes(), &[0; 2], &number.to_ne_bytes(), &[0; 4]];
        [&head.concat()[..], &(-code).to_ne_bytes(), &original].concat()
    }

    #[test]
    fn an_answer_says_what_the_kernel_lacks() {
        let mut batch = Batch::new(2);
        batch.push(0, CREATE, "tables", |attributes| attributes.text(1, "t"));
        batch.push(3, CREATE, "chains", |attributes| attributes.text(1, "t"));
        let said = |bytes: &[u8]| match batch.outcome(bytes) {
            None => "nothing yet".to_owned(),
            Some(Ok(())) => "done".to_owned(),
            Some(Err(error)) => error.to_string(),
        };
        for (bytes, want) in [
            (answer(2, libc::ENOENT), "the kernel has no chains"),
            (answer(0, libc::EOPNOTSUPP), "the kernel has no nf_tables (CONFIG_NF_TABLES)"),
            (
                answer(1, libc::EPERM),
                "changing the firewall is not allowed: the capability NET_ADMIN is missing",
            ),
            ([answer(2, libc::ENOENT), answer(1, 0)].concat(), "the kernel has no chains"),
            (answer(2, 0), "done"),
            (vec![0; 3], "nothing yet"),
        ] {
            assert_eq!(said(&bytes), want);
        }
    }
}
