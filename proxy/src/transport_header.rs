//! The preface by which one proxy tells another, inside mutual TLS, for which port and protocol a connection is:
//! `transport.l5d.io/v1`, a big-endian length, a protobuf message.

use bytes::{Buf, BufMut, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

const PREFACE: &[u8] = b"transport.l5d.io/v1\r\n\r\n";
/// A port, a protocol and a DNS name fit many times over.
const MAX_MESSAGE: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of the application.
    pub port: u16,
    /// `None`: the receiver's policy of the port says whether to look at the bytes.
    pub protocol: Option<Session>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    Http1,
    Http2,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the connection does not begin with a transport header")]
    Preface,
    #[error("the transport header is {0} bytes long (at most {MAX_MESSAGE})")]
    TooLong(usize),
    #[error("the transport header is not readable: {0}")]
    Message(#[from] prost::DecodeError),
    #[error("the transport header names port {0}")]
    Port(i32),
    #[error("the transport header asks for a gateway to {0:?}, which this proxy is not")]
    Gateway(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Header {
        #[prost(int32, tag = "1")]
        pub port: i32,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(message, optional, tag = "3")]
        pub protocol: Option<SessionProtocol>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct SessionProtocol {
        #[prost(oneof = "Kind", tags = "1, 2")]
        pub kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        #[prost(message, tag = "1")]
        Http1(Empty),
        #[prost(message, tag = "2")]
        Http2(Empty),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Empty {}
}

impl Header {
    pub fn encode(&self) -> BytesMut {
        let kind = self.protocol.map(|protocol| match protocol {
            Session::Http1 => wire::Kind::Http1(wire::Empty {}),
            Session::Http2 => wire::Kind::Http2(wire::Empty {}),
        });
        let message = wire::Header {
            port: self.port.into(),
            name: String::new(),
            protocol: kind.map(|kind| wire::SessionProtocol { kind: Some(kind) }),
        };
        let len = message.encoded_len();
        let mut out = BytesMut::with_capacity(PREFACE.len() + 4 + len);
        out.put_slice(PREFACE);
        out.put_u32(len as u32);
        message.encode(&mut out).expect("BytesMut grows");
        out
    }

    /// Reads the header off `io`; bytes after it stay in `seen`. Not cancel-safe: what was read is lost with the future.
    pub async fn read(io: &mut (impl AsyncRead + Unpin), seen: &mut BytesMut) -> Result<Header, Error> {
        loop {
            if let Some(header) = Header::decode(seen)? {
                return Ok(header);
            }
            if io.read_buf(seen).await? == 0 {
                return Err(Error::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// `None`: more bytes are needed, and none were taken.
    pub fn decode(seen: &mut BytesMut) -> Result<Option<Header>, Error> {
        let begins = seen.len().min(PREFACE.len());
        if seen[..begins] != PREFACE[..begins] {
            return Err(Error::Preface);
        }
        let Some(len) = seen.get(PREFACE.len()..PREFACE.len() + 4) else { return Ok(None) };
        let len = u32::from_be_bytes(len.try_into().expect("four bytes")) as usize;
        if len > MAX_MESSAGE {
            return Err(Error::TooLong(len));
        }
        let start = PREFACE.len() + 4;
        if seen.len() < start + len {
            return Ok(None);
        }
        seen.advance(start);
        let message = wire::Header::decode(seen.split_to(len))?;
        if !message.name.is_empty() {
            return Err(Error::Gateway(message.name));
        }
        let port = match u16::try_from(message.port) {
            Ok(port) if port != 0 => port,
            Ok(_) | Err(_) => return Err(Error::Port(message.port)),
        };
        let protocol = message.protocol.and_then(|protocol| protocol.kind).map(|kind| match kind {
            wire::Kind::Http1(_) => Session::Http1,
            wire::Kind::Http2(_) => Session::Http2,
        });
        Ok(Some(Header { port, protocol }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn is_what_linkerd_sends() {
        let header = Header { port: 8080, protocol: Some(Session::Http2) };
        assert_eq!(
            &header.encode()[..],
            b"transport.l5d.io/v1\r\n\r\n\0\0\0\x07\x08\x90\x3f\x1a\x02\x12\x00"
        );
    }

    #[test]
    fn refuses_a_gateway_and_a_port_that_is_none() {
        for (message, want) in [
            (wire::Header { port: 80, name: "a.b:80".into(), protocol: None }, "gateway"),
            (wire::Header { port: 0, ..Default::default() }, "port 0"),
            (wire::Header { port: 70_000, ..Default::default() }, "port 70000"),
        ] {
            let mut bytes = BytesMut::from(PREFACE);
            bytes.put_u32(message.encoded_len() as u32);
            message.encode(&mut bytes).unwrap();
            let error = Header::decode(&mut bytes).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    proptest! {
        #[test]
        fn decodes_what_it_encodes_however_it_is_cut(port in 1u16.., session in 0usize..3, cut in 0usize..64) {
            let protocol = [None, Some(Session::Http1), Some(Session::Http2)][session];
            let header = Header { port, protocol };
            let mut whole = header.encode();
            whole.put_slice(b"rest");
            let mut seen = BytesMut::from(&whole[..cut.min(whole.len())]);
            if let Some(early) = Header::decode(&mut seen).unwrap() {
                prop_assert_eq!(&early, &header);
            } else {
                seen.extend_from_slice(&whole[seen.len()..]);
                prop_assert_eq!(Header::decode(&mut seen).unwrap().unwrap(), header);
                prop_assert_eq!(&seen[..], b"rest");
            }
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut framed = BytesMut::from(PREFACE);
            framed.put_slice(&bytes);
            let _ = Header::decode(&mut framed);
            let _ = Header::decode(&mut BytesMut::from(&bytes[..]));
        }
    }
}
